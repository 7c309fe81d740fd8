//! JSON Web Tokens: tokens that are signed, so that no member has to remember them.
//!
//! - The header of a token must name the method of `--auth-token`. So no client can choose `none`,
//!   or use a public key as the secret of an HMAC.
//! - The key files are read again when they have changed. If they are not valid then, the previous
//!   keys stay in use, which is logged and counted ([`failed_reloads`]).
//! - A token that was verified is remembered by its digest, as long as the keys are the same.
//!
//! Source: etcd v3.7 server/auth/jwt.go; golang-jwt v5 {parser,validator,map_claims}.go.

mod keys;
mod method;
#[cfg(test)]
mod tests;

pub use keys::JwtKeyFiles;
pub use method::SignMethod;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keys::{KeyError, SigningKeys};
use net::{FileKind, Reloaded};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The time between two looks for changed files.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many verified tokens are remembered.
const REMEMBERED_MAX: usize = 10_000;

static FILES: FileKind = FileKind::new("key files of JSON Web Tokens");

/// How many times changed key files were not valid since the process started.
#[must_use]
pub fn failed_reloads() -> u64 {
    FILES.failed_reloads()
}

/// `--auth-token=jwt,…`.
#[derive(Clone, Debug)]
pub struct JwtOptions {
    /// `sign-method`.
    pub method: SignMethod,
    /// `pub-key` and `priv-key`.
    pub files: JwtKeyFiles,
    /// `ttl`: how long a token is valid.
    pub ttl: Duration,
}

/// The user that a token names, and the auth revision at which the token was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JwtClaims {
    pub(crate) user: String,
    pub(crate) auth_revision: u64,
}

/// Why a token is not valid. Golang-jwt's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidJwt {
    Segments,
    Malformed,
    Method,
    Signature,
    Claims,
    Expired,
    NotYetValid,
    User,
    Revision,
}

impl fmt::Display for InvalidJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvalidJwt::Segments => {
                "token is malformed: token contains an invalid number of segments"
            }
            InvalidJwt::Malformed => "token is malformed: header or claims cannot be decoded",
            InvalidJwt::Method => "token is unverifiable: invalid signing method",
            InvalidJwt::Signature => "token signature is invalid",
            InvalidJwt::Claims => "token has invalid claims: a time is not a number",
            InvalidJwt::Expired => "token has invalid claims: token is expired",
            InvalidJwt::NotYetValid => "token has invalid claims: token is not valid yet",
            InvalidJwt::User => "failed to obtain user claims from jwt token",
            InvalidJwt::Revision => "failed to obtain revision claims from jwt token",
        })
    }
}

/// Why a token cannot be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CannotSign {
    /// There are only public keys.
    VerifyOnly,
    /// The library has refused.
    Failed,
}

impl fmt::Display for CannotSign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CannotSign::VerifyOnly => "auth: token signing attempted with verify-only key",
            CannotSign::Failed => "auth: the token cannot be signed",
        })
    }
}

/// A verified token, without the token.
#[derive(Clone, Debug)]
struct Verified {
    claims: JwtClaims,
    times: ValidTimes,
}

/// When a token is valid, in seconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
struct ValidTimes {
    /// Not from this time on.
    expires: Option<f64>,
    /// From this time on.
    begins: Option<f64>,
}

/// The keys as of one state of their files, and the tokens that they have verified.
struct CurrentKeys {
    keys: SigningKeys,
    verified: Mutex<HashMap<[u8; 32], Verified>>,
}

/// Signs and verifies tokens, for all workers.
pub(crate) struct Jwt {
    method: SignMethod,
    ttl: Duration,
    files: Reloaded<CurrentKeys, KeyError>,
    look_every: Duration,
    last: Mutex<(Instant, Arc<CurrentKeys>)>,
}

/// Shows no key.
impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt").field("method", &self.method).finish_non_exhaustive()
    }
}

impl Jwt {
    /// Reads the keys.
    ///
    /// # Errors
    /// etcd's error, when the keys cannot be used.
    pub(crate) fn open(options: &JwtOptions) -> Result<Jwt, String> {
        Jwt::looking(options, LOOK_EVERY)
    }

    fn looking(options: &JwtOptions, look_every: Duration) -> Result<Jwt, String> {
        let JwtOptions { method, files, ttl } = options.clone();
        let paths = files.paths();
        let make = move || {
            let keys = SigningKeys::read(method, &files)?;
            Ok(CurrentKeys { keys, verified: Mutex::default() })
        };
        let files = Reloaded::new(&FILES, paths, Box::new(make)).map_err(|error| match error {
            KeyError::File { .. } => {
                tracing::error!(%error, "problem loading JWT options");
                "auth: invalid auth options".to_owned()
            }
            KeyError::Missing | KeyError::Mismatch | KeyError::Content { .. } => error.to_string(),
        })?;
        let last = Mutex::new((Instant::now(), files.current()));
        Ok(Jwt { method, ttl, files, look_every, last })
    }

    /// The keys of the files as they were at most `look_every` ago.
    fn keys(&self) -> Arc<CurrentKeys> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0.elapsed() >= self.look_every {
            *last = (Instant::now(), self.files.current());
        }
        Arc::clone(&last.1)
    }

    /// A token for a user who was authenticated at this revision of the auth store.
    pub(crate) fn sign(&self, claims: &JwtClaims, now: SystemTime) -> Result<String, CannotSign> {
        let current = self.keys();
        if !current.keys.can_sign() {
            return Err(CannotSign::VerifyOnly);
        }
        let header = json!({ "alg": self.method.name, "typ": "JWT" });
        let expires = (since_1970(now) + self.ttl).as_secs();
        let JwtClaims { user, auth_revision } = claims;
        let body = json!({ "exp": expires, "revision": auth_revision, "username": user });
        let encoded = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let mut token = format!("{}.{}", encoded(header), encoded(body));
        let signature = current.keys.sign(token.as_bytes()).ok_or(CannotSign::Failed)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        tracing::debug!(
            "user-name" = user,
            revision = auth_revision,
            "token-fingerprint" = fingerprint(&token),
            "created/assigned a new JWT token"
        );
        Ok(token)
    }

    /// The claims of a token that is valid now.
    pub(crate) fn verify(&self, token: &str, now: SystemTime) -> Result<JwtClaims, InvalidJwt> {
        let current = self.keys();
        let digest: [u8; 32] = Sha256::digest(token).into();
        let known = lock(&current.verified).get(&digest).cloned();
        let verified = match known {
            Some(verified) => verified,
            None => {
                let verified = self.checked(&current.keys, token)?;
                let mut all = lock(&current.verified);
                if all.len() >= REMEMBERED_MAX {
                    all.clear();
                }
                all.insert(digest, verified.clone());
                verified
            }
        };
        verified.times.check(since_1970(now).as_secs_f64())?;
        Ok(verified.claims)
    }

    /// Checks everything but the time.
    fn checked(&self, keys: &SigningKeys, token: &str) -> Result<Verified, InvalidJwt> {
        let segments: Vec<&str> = token.split('.').collect();
        let [header, claims, signature] = segments[..] else { return Err(InvalidJwt::Segments) };
        if object(header)?.get("alg").and_then(Value::as_str) != Some(self.method.name) {
            return Err(InvalidJwt::Method);
        }
        let signed = &token.as_bytes()[..header.len() + 1 + claims.len()];
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| InvalidJwt::Malformed)?;
        if !keys.verifies(signed, &signature) {
            return Err(InvalidJwt::Signature);
        }
        let claims = object(claims)?;
        let time = |name| match claims.get(name) {
            None => Ok(None),
            // As in etcd, fractions of a second are cut off.
            Some(time) => time.as_f64().map(|it| Some(it.trunc())).ok_or(InvalidJwt::Claims),
        };
        let times = ValidTimes { expires: time("exp")?, begins: time("nbf")? };
        let user = claims.get("username").and_then(Value::as_str).ok_or(InvalidJwt::User)?;
        let revision = claims.get("revision").and_then(whole).ok_or(InvalidJwt::Revision)?;
        let claims = JwtClaims { user: user.to_owned(), auth_revision: revision };
        Ok(Verified { claims, times })
    }
}

impl ValidTimes {
    fn check(self, now_s: f64) -> Result<(), InvalidJwt> {
        if self.expires.is_some_and(|expires| now_s >= expires) {
            return Err(InvalidJwt::Expired);
        }
        if self.begins.is_some_and(|begins| now_s < begins) {
            return Err(InvalidJwt::NotYetValid);
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn since_1970(now: SystemTime) -> Duration {
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A segment of a token, which is a JSON object.
fn object(segment: &str) -> Result<Map<String, Value>, InvalidJwt> {
    let bytes = URL_SAFE_NO_PAD.decode(segment).map_err(|_| InvalidJwt::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| InvalidJwt::Malformed)
}

/// A number that is not negative, without its fraction.
fn whole(number: &Value) -> Option<u64> {
    let floating = || number.as_f64().filter(|it| *it >= 0.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative; larger numbers become the largest"
    )]
    number.as_u64().or_else(|| floating().map(|it| it as u64))
}

/// Names a token in the log without showing it.
pub(crate) fn fingerprint(token: &str) -> String {
    let digest = Sha256::digest(token);
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

//! Finds the user of a client by its token or the name in its certificate, for each request.
//!
//! Source: etcd v3.7 server/auth/{store,simple_token,jwt}.go, server/etcdserver/v3_server.go
//! (`AuthInfoFromCtx`, `Authenticate`).

use super::credentials::TokenProvider;
use super::errors::{denied_status, refusal_status, status_of};
use super::worker_host::WorkerHost;
use crate::call::mismatch;
use crate::jwt::{InvalidJwt, JwtClaims, fingerprint};
use auth::Caller;
use proto::Index;
use proto::answer::{Answer, AuthAnswer};
use proto::etcdserverpb::{InternalAuthenticateRequest, InternalRaftRequest};
use rand::rngs::OsRng;
use rand::{Rng as _, TryRngCore as _};
use rpc::{Code, Error, Status};
use server::EncodedRequest;
use std::rc::Rc;
use std::time::SystemTime;

/// The letters and the length of the random part of a simple token.
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const TOKEN_LETTERS: usize = 16;

/// Why a token is not valid.
enum InvalidToken {
    Unknown,
    Jwt(InvalidJwt),
}

/// The index in a simple token.
fn index_of(token: &str) -> Option<Index> {
    let (_, index) = token.split_once('.')?;
    let digits = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| index.parse().ok()).flatten().map(Index)
}

impl WorkerHost {
    /// The caller, whose permissions the auth store checks.
    ///
    /// # Errors
    /// When the token is not valid.
    pub(super) async fn caller(&self) -> Result<Caller, Status> {
        if !self.auth().is_enabled() {
            return Ok(Caller::default());
        }
        let caller = self.found_caller().await;
        caller.map_err(|invalid| {
            if let InvalidToken::Jwt(error) = invalid {
                let token = self.credentials.token.as_deref().map(fingerprint);
                let message = "failed to parse a JWT token";
                tracing::warn!(%error, "token-fingerprint" = token, "{message}");
            }
            Error::InvalidAuthToken.into()
        })
    }

    /// The name of the client's user, if it has one. Logs nothing.
    pub(super) async fn named_user(&self) -> Option<Rc<str>> {
        if !self.auth().is_enabled() {
            return None;
        }
        let caller = self.found_caller().await.ok()?;
        (!caller.user.is_empty()).then(|| caller.user.into())
    }

    async fn found_caller(&self) -> Result<Caller, InvalidToken> {
        if let Some(token) = &self.credentials.token {
            return self.caller_of_token(token).await;
        }
        Ok(match &self.credentials.certificate_name {
            None => Caller::default(),
            Some(name) => Caller { user: name.to_string(), auth_revision: self.auth().revision() },
        })
    }

    async fn caller_of_token(&self, token: &str) -> Result<Caller, InvalidToken> {
        let user = match &self.authenticator.tokens {
            TokenProvider::Off => None,
            TokenProvider::Simple => match index_of(token) {
                Some(index) => self.worker.user_of_token(token, index).await,
                None => None,
            },
            TokenProvider::Jwt(jwt) => {
                let claims = jwt.verify(token, SystemTime::now()).map_err(InvalidToken::Jwt)?;
                let JwtClaims { user, auth_revision } = claims;
                return Ok(Caller { user, auth_revision });
            }
        };
        let user = user.ok_or(InvalidToken::Unknown)?;
        Ok(Caller { user, auth_revision: self.auth().revision() })
    }

    /// Refuses a client without a user.
    pub(super) async fn permit_user(&self) -> Result<(), Status> {
        let caller = self.caller().await?;
        self.auth().permit_user(&caller).map_err(denied_status)
    }

    /// Refuses a client that is not an administrator.
    pub(super) async fn permit_admin(&self) -> Result<(), Status> {
        let caller = self.caller().await?;
        self.auth().permit_admin(&caller).map_err(refusal_status)
    }

    /// Creates a token for a user whose password is right.
    pub(super) async fn new_token(&self, name: String, password: String) -> Result<String, Status> {
        self.worker.linearizable_view().await.map_err(status_of)?;
        loop {
            let store = self.auth();
            let passwords = &self.authenticator.passwords;
            let checked_at = passwords.check(&store, &name, password.clone()).await?;
            match &self.authenticator.tokens {
                TokenProvider::Off => return Err(Error::AuthFailed.into()),
                TokenProvider::Simple => {}
                // No entry is needed: the token has the revision that the password was checked at,
                // so it is not valid once the password has changed.
                TokenProvider::Jwt(jwt) => {
                    let claims = JwtClaims { user: name, auth_revision: checked_at };
                    let token = jwt.sign(&claims, SystemTime::now());
                    return token.map_err(|error| Status::new(Code::Unknown, error.to_string()));
                }
            }
            let simple_token = random_letters();
            let (name, password) = (name.clone(), String::new());
            let authenticate = InternalAuthenticateRequest { name, password, simple_token };
            let request =
                InternalRaftRequest { authenticate: Some(authenticate), ..Default::default() };
            let answer = self
                .worker
                .propose(Caller::default(), EncodedRequest::new(&request))
                .await
                .map_err(status_of)?;
            let Answer::Auth(AuthAnswer::Authenticated { token, .. }) = answer else {
                return Err(mismatch());
            };
            // If the revision differs, the password may have changed since it was checked.
            if checked_at == self.auth().revision() {
                return Ok(token);
            }
            tracing::info!("revision when password checked became stale; retrying");
        }
    }
}

fn random_letters() -> String {
    let mut random = OsRng.unwrap_err();
    (0..TOKEN_LETTERS).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_tokens_name_their_entry() {
        assert_eq!(index_of("abc.12"), Some(Index(12)));
        for bad in ["abc", "abc.", "abc.x", "abc.1.2", "abc.+1", "abc.99999999999999999999"] {
            assert_eq!(index_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn two_tokens_differ() {
        let (one, other) = (random_letters(), random_letters());
        assert_ne!(one, other);
        assert!(one.len() == TOKEN_LETTERS && one.bytes().all(|byte| LETTERS.contains(&byte)));
    }
}

//! Hashes and verifies passwords with bcrypt, on threads of the blocking pool.
//!
//! - One core is left to the rest of the server: at most cores − 1 hashes run at a time, so that a
//!   flood of wrong passwords does not stop the other clients.
//! - A password that was verified is not hashed again until it changes.
//! - A user that does not exist takes as long as a wrong password.
//!
//! Source: etcd v3.7 server/auth/store.go (`CheckPassword`), server/etcdserver/v3_server.go
//! (`UserAdd`).

use auth::{AuthRefusal, AuthStore};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use rpc::{Code, Error, Status};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The longest password in bytes; bcrypt ignores further bytes.
const PASSWORD_MAX: usize = 72;
/// The costs that bcrypt permits.
pub const BCRYPT_COSTS: std::ops::RangeInclusive<u64> = 4..=31;
const COST_DEFAULT: u32 = 10;
/// The salt and the digest of a hash that matches no known password.
const NOBODY: &str = "abcdefghijklmnopqrstuu0123456789ABCDEFGHIJKLMNOPQRSTS";
/// How many verified passwords are remembered, one for each user.
const REMEMBERED_MAX: usize = 10_000;
/// How many requests may wait for a hash.
const WAITING_MAX: usize = 1_024;

/// A verified password.
#[derive(Debug)]
struct Remembered {
    /// The stored hash that it was verified against.
    hash: Bytes,
    /// A digest of the password, keyed with this process's random key.
    digest: [u8; 32],
}

/// Hashes and verifies passwords, for all workers.
#[derive(Debug)]
pub(crate) struct Passwords {
    cost: u32,
    threads: Semaphore,
    waiting: Semaphore,
    /// The hash that is used when the user does not exist.
    nobody: String,
    key: [u8; 32],
    remembered: Mutex<HashMap<String, Remembered>>,
}

/// The cost for this value of `--bcrypt-cost`. As in etcd, the default replaces a value that bcrypt
/// does not permit.
#[must_use]
pub fn bcrypt_cost(given: u64) -> u32 {
    let has = Some(given).filter(|cost| BCRYPT_COSTS.contains(cost));
    has.and_then(|cost| u32::try_from(cost).ok()).unwrap_or(COST_DEFAULT)
}

fn no_randomness(error: impl std::fmt::Display) -> Status {
    Status::new(Code::Internal, format!("retcd: the system has no random numbers: {error}"))
}

impl Passwords {
    /// Hashes with this cost, which must be one that bcrypt permits.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(crate) fn new(cost: u32) -> Result<Passwords, Status> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut key = [0; 32];
        OsRng.try_fill_bytes(&mut key).map_err(no_randomness)?;
        Ok(Passwords {
            cost,
            threads: Semaphore::new(cores.saturating_sub(1).max(1)),
            waiting: Semaphore::new(WAITING_MAX),
            nobody: format!("$2a${cost:02}${NOBODY}"),
            key,
            remembered: Mutex::default(),
        })
    }

    async fn turn(&self) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), Status> {
        let waiting =
            self.waiting.try_acquire().map_err(|_| Status::from(Error::TooManyRequests))?;
        let thread = self.threads.acquire().await.map_err(|_| Status::from(Error::Stopped))?;
        Ok((waiting, thread))
    }

    /// The hash of a password as entries hold it: base64 of bcrypt's text.
    ///
    /// # Errors
    /// When the password is too long, or too many requests wait.
    pub(crate) async fn hashed(&self, password: String) -> Result<String, Status> {
        if password.len() > PASSWORD_MAX {
            return Err(Status::new(Code::Unknown, "bcrypt: password length exceeds 72 bytes"));
        }
        let mut salt = [0; 16];
        OsRng.try_fill_bytes(&mut salt).map_err(no_randomness)?;
        let turn = self.turn().await?;
        let cost = self.cost;
        let hash = blocking(move || bcrypt::hash_with_salt(password, cost, salt)).await?;
        drop(turn);
        let hash = hash.map_err(|error| Status::new(Code::Internal, format!("retcd: {error}")))?;
        Ok(STANDARD.encode(hash.format_for_version(bcrypt::Version::TwoA)))
    }

    /// Checks the password of a user against the stored hash. Returns the revision of the auth
    /// store that it was checked at.
    ///
    /// # Errors
    /// etcd's errors, and an error when too many requests wait.
    pub(crate) async fn check(
        &self,
        store: &AuthStore,
        name: &str,
        password: String,
    ) -> Result<u64, Status> {
        let hash = match store.password_of(name) {
            Ok(user) => Some(user.password.clone()),
            Err(AuthRefusal::Failed) => None,
            Err(refusal) => {
                tracing::warn!(user = name, error = %refusal, "invalid authentication was requested");
                return Err(super::member::refusal_status(refusal));
            }
        };
        let digest = self.digest(name, &password);
        if let Some(hash) = &hash
            && self.is_remembered(name, hash, &digest)
        {
            return Ok(store.revision());
        }
        let turn = self.turn().await?;
        let compared = match &hash {
            Some(hash) => String::from_utf8_lossy(hash).into_owned(),
            None => self.nobody.clone(),
        };
        // A stored value that is not a bcrypt hash matches no password.
        let is_right =
            blocking(move || bcrypt::verify(password, &compared).unwrap_or(false)).await?;
        drop(turn);
        match hash {
            Some(hash) if is_right => {
                self.remember(name, Remembered { hash, digest });
                Ok(store.revision())
            }
            Some(_) | None => {
                tracing::warn!(user = name, "invalid authentication was requested");
                Err(Error::AuthFailed.into())
            }
        }
    }

    fn digest(&self, name: &str, password: &str) -> [u8; 32] {
        let mut sha = Sha256::new();
        sha.update(self.key);
        sha.update((name.len() as u64).to_be_bytes());
        sha.update(name);
        sha.update(password);
        sha.finalize().into()
    }

    fn is_remembered(&self, name: &str, hash: &Bytes, digest: &[u8; 32]) -> bool {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        // The digests depend on a secret key, so the time of the comparison reveals nothing.
        remembered.get(name).is_some_and(|one| one.hash == *hash && one.digest == *digest)
    }

    fn remember(&self, name: &str, one: Remembered) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX && !remembered.contains_key(name) {
            remembered.clear();
        }
        remembered.insert(name.to_owned(), one);
    }
}

/// Runs work that takes long on a thread of the blocking pool.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Status::new(Code::Internal, format!("retcd: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth::{Caller, Request};
    use backend::Batch;
    use proto::EntryId;
    use proto::etcdserverpb::{
        AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserGrantRoleRequest,
    };

    fn change(store: &mut AuthStore, request: Request) {
        let root = Caller { user: "root".into(), auth_revision: store.revision() };
        let mut batch = Batch::new(EntryId::default());
        store.change(&root, request, (1, 4), &mut batch).unwrap();
    }

    #[tokio::test]
    async fn a_password_is_right_until_there_is_another_one() {
        let passwords = Passwords::new(4).unwrap();
        let mut store = AuthStore::disabled();
        let check = async |store: &AuthStore, name: &str, password: &str| {
            passwords.check(store, name, password.to_owned()).await.map_err(|status| status.message)
        };
        let hashed_password = passwords.hashed("secret".into()).await.unwrap();
        let root =
            AuthUserAddRequest { name: "root".into(), hashed_password, ..Default::default() };
        change(&mut store, Request::UserAdd(root));
        let grant = AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() };
        change(&mut store, Request::UserGrantRole(grant));
        let off = check(&store, "root", "secret").await.unwrap_err();
        assert_eq!(off, Error::AuthNotEnabled.text());
        change(&mut store, Request::Enable);
        let wrong = check(&store, "root", "Secret").await.unwrap_err();
        assert_eq!(wrong, Error::AuthFailed.text());
        assert_eq!(check(&store, "unknown", "secret").await.unwrap_err(), wrong);
        assert!(passwords.remembered.lock().unwrap().is_empty());
        assert_eq!(check(&store, "root", "secret").await, Ok(store.revision()));
        assert_eq!(passwords.remembered.lock().unwrap().len(), 1);
        assert_eq!(check(&store, "root", "secret").await, Ok(store.revision()));
        let hashed_password = passwords.hashed("other".into()).await.unwrap();
        let name = "root".to_owned();
        let passwd = AuthUserChangePasswordRequest { name, hashed_password, ..Default::default() };
        change(&mut store, Request::UserChangePassword(passwd));
        assert_eq!(check(&store, "root", "secret").await.unwrap_err(), wrong);
        assert_eq!(check(&store, "root", "other").await, Ok(store.revision()));
    }

    #[test]
    fn the_hash_of_nobody_is_a_hash_with_the_cost_of_the_others() {
        let passwords = Passwords::new(5).unwrap();
        let begun = bcrypt::verify("x", &passwords.nobody);
        assert!(!begun.unwrap());
        assert!(passwords.nobody.starts_with("$2a$05$"));
        assert_eq!([3, 4, 31, 32].map(bcrypt_cost), [10, 4, 31, 10]);
    }

    #[tokio::test]
    async fn cve_2020_15115_tob_008_the_length_of_a_password_is_etcds() {
        let passwords = Passwords::new(4).unwrap();
        let long = passwords.hashed("x".repeat(73)).await.unwrap_err();
        assert_eq!(long.message, "bcrypt: password length exceeds 72 bytes");
        assert!(passwords.hashed("x".repeat(72)).await.is_ok());
        assert!(passwords.hashed(String::new()).await.is_ok(), "as etcd");
    }
}

//! The auth store: whether authentication is on, its revision, and the decision.

use crate::permit::{Access, Denied, Guarded, Permitted};
use std::fmt;
use std::sync::Arc;

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The user's name; empty without authentication.
    pub user: String,
    /// The revision of the auth store at which the user was authenticated; 0 without
    /// authentication.
    pub auth_revision: u64,
}

/// The permissions of users while authentication is on.
pub trait Rules: fmt::Debug + Send + Sync {
    /// Whether `user` may access all keys of the range.
    fn allow(&self, user: &str, access: Access<'_>) -> bool;
}

/// The auth store as one caller meets it.
#[derive(Clone, Copy, Debug)]
pub struct Door<'a> {
    auth: &'a AuthStore,
    caller: &'a Caller,
}

impl Door<'_> {
    /// As [`AuthStore::permit`], for this caller.
    ///
    /// # Errors
    /// As [`AuthStore::permit`].
    pub fn permit<R: Guarded>(self, request: R) -> Result<Permitted<R>, Denied> {
        self.auth.permit(self.caller, request)
    }
}

/// Why a store cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// Authentication is on, and users and roles are not built yet.
    Enabled,
    /// The stored auth revision is not 8 bytes.
    BadRevision,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LoadError::Enabled => {
                "authentication is enabled in this data directory, and this server does not \
                 support authentication yet; it will not serve the directory unguarded"
            }
            LoadError::BadRevision => "the stored auth revision is not 8 bytes",
        })
    }
}

impl std::error::Error for LoadError {}

/// The replicated state of authentication.
#[derive(Clone, Debug)]
pub struct AuthStore {
    revision: u64,
    /// None while authentication is off.
    rules: Option<Arc<dyn Rules>>,
}

impl AuthStore {
    /// The key of the flag in bucket `auth`.
    pub const ENABLED_KEY: &'static [u8] = b"authEnabled";
    /// The key of the revision in bucket `auth`.
    pub const REVISION_KEY: &'static [u8] = b"authRevision";
    /// The revision of a fresh store. Every member writes it at its start, outside raft.
    pub const FIRST_REVISION: u64 = 1;

    /// Reads what the bucket `auth` holds under the two keys.
    ///
    /// # Errors
    /// When authentication is on, or the revision cannot be read.
    pub fn load(enabled: Option<&[u8]>, revision: Option<&[u8]>) -> Result<AuthStore, LoadError> {
        if enabled.is_some_and(|flag| flag == [1]) {
            return Err(LoadError::Enabled);
        }
        let revision = match revision {
            None => 0,
            Some(bytes) => {
                u64::from_be_bytes(bytes.try_into().map_err(|_| LoadError::BadRevision)?)
            }
        };
        Ok(AuthStore { revision: revision.max(AuthStore::FIRST_REVISION), rules: None })
    }

    /// The store of a new cluster: authentication is off.
    #[must_use]
    pub fn disabled() -> AuthStore {
        AuthStore { revision: AuthStore::FIRST_REVISION, rules: None }
    }

    /// A store at `revision` whose authentication is on and decided by `rules`. Only tests have
    /// rules until users and roles are built.
    #[must_use]
    pub fn with_rules(revision: u64, rules: Arc<dyn Rules>) -> AuthStore {
        AuthStore { revision, rules: Some(rules) }
    }

    /// The revision of the auth store.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The door for one caller.
    #[must_use]
    pub fn door<'a>(&'a self, caller: &'a Caller) -> Door<'a> {
        Door { auth: self, caller }
    }

    /// Decides whether `caller` may do what `request` says. While authentication is off everything
    /// is allowed, whatever the caller's revision.
    ///
    /// # Errors
    /// In this order, as etcd: no user, an old revision, a range that the user has no permission
    /// for.
    pub fn permit<R: Guarded>(&self, caller: &Caller, request: R) -> Result<Permitted<R>, Denied> {
        if let Some(rules) = &self.rules {
            if caller.auth_revision == 0 {
                return Err(Denied::UserEmpty);
            }
            if caller.auth_revision < self.revision {
                return Err(Denied::OldRevision);
            }
            request.each_access(&mut |access| match rules.allow(&caller.user, access) {
                true => Ok(()),
                false => Err(Denied::PermissionDenied),
            })?;
        }
        Ok(Permitted::new(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::KeyRange;

    /// Lets alice read the key `a` and nobody anything else.
    #[derive(Debug)]
    struct AliceReadsA;

    impl Rules for AliceReadsA {
        fn allow(&self, user: &str, access: Access<'_>) -> bool {
            user == "alice" && access == Access::Read(&KeyRange::One("a".into()))
        }
    }

    fn caller(user: &str, auth_revision: u64) -> Caller {
        Caller { user: user.into(), auth_revision }
    }

    fn read(key: &'static str) -> KeyRange {
        KeyRange::One(key.into())
    }

    #[test]
    fn an_enabled_store_is_refused() {
        assert_eq!(AuthStore::load(Some(&[1]), None).err(), Some(LoadError::Enabled));
        assert_eq!(AuthStore::load(Some(&[0]), None).map(|store| store.revision()), Ok(1));
    }

    #[test]
    fn the_stored_revision_is_read() {
        let load =
            |stored: &[u8]| AuthStore::load(None, Some(stored)).map(|store| store.revision());
        assert_eq!(load(&7u64.to_be_bytes()), Ok(7));
        assert_eq!(load(&[7]), Err(LoadError::BadRevision));
    }

    #[test]
    fn everything_is_allowed_while_authentication_is_off() {
        let store = AuthStore::load(None, Some(&7u64.to_be_bytes())).unwrap();
        assert!(store.permit(&Caller::default(), read("b")).is_ok());
        assert!(store.permit(&caller("alice", 1), read("b")).is_ok(), "as etcd");
    }

    #[test]
    fn the_rules_decide_about_the_range_of_the_request() {
        let store = AuthStore::with_rules(7, Arc::new(AliceReadsA));
        let denied = |caller: &Caller, key| store.permit(caller, read(key)).err();
        assert_eq!(denied(&caller("alice", 7), "a"), None);
        assert_eq!(denied(&caller("alice", 8), "a"), None, "this member applies behind another");
        assert_eq!(denied(&caller("alice", 7), "b"), Some(Denied::PermissionDenied));
        assert_eq!(denied(&caller("bob", 7), "a"), Some(Denied::PermissionDenied));
    }

    #[test]
    fn callers_without_a_user_or_with_an_old_revision_are_denied_first() {
        let store = AuthStore::with_rules(7, Arc::new(AliceReadsA));
        let denied = |caller: &Caller| store.permit(caller, read("a")).err();
        assert_eq!(denied(&Caller::default()), Some(Denied::UserEmpty));
        assert_eq!(denied(&caller("alice", 6)), Some(Denied::OldRevision));
    }
}

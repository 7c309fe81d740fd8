//! The auth store: whether authentication is enabled, its revision, and the permission checks.

use crate::accounts::{Accounts, LoadError, Stored};
use crate::permit::{Access, Denied, Guarded, Permitted};
use crate::refusal::AuthRefusal;
use proto::authpb::User;
use std::fmt;
use std::sync::Arc;

/// The name of the user that must exist to enable authentication, and of the role that it must
/// have. A user with this role may do everything.
pub const ROOT: &str = "root";

/// The caller of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The user's name; empty without authentication.
    pub user: String,
    /// The revision of the auth store at which the user was authenticated; 0 without
    /// authentication.
    pub auth_revision: u64,
}

/// Decides instead of users and roles, in tests.
pub trait Rules: fmt::Debug + Send + Sync {
    /// Whether `user` may access all keys of the range.
    fn allow(&self, user: &str, access: Access<'_>) -> bool;
}

/// The auth store for one caller.
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

/// The replicated state of authentication. A clone shares users and roles.
#[derive(Clone, Debug)]
pub struct AuthStore {
    pub(crate) enabled: bool,
    pub(crate) revision: u64,
    pub(crate) accounts: Accounts,
    /// Replaces the accounts, in tests of other crates.
    rules: Option<Arc<dyn Rules>>,
}

impl AuthStore {
    /// The key of the flag in bucket `auth`.
    pub const ENABLED_KEY: &'static [u8] = b"authEnabled";
    /// The key of the revision in bucket `auth`.
    pub const REVISION_KEY: &'static [u8] = b"authRevision";
    /// The revision of a fresh store. Every member writes it at its start, outside raft.
    pub const FIRST_REVISION: u64 = 1;

    /// Loads the stored data.
    ///
    /// # Errors
    /// When the revision, a user or a role cannot be read.
    pub fn load(stored: &Stored) -> Result<AuthStore, LoadError> {
        let revision = match &stored.revision {
            None => 0,
            Some(bytes) => {
                u64::from_be_bytes(bytes[..].try_into().map_err(|_| LoadError::BadRevision)?)
            }
        };
        Ok(AuthStore {
            enabled: stored.enabled.as_ref().is_some_and(|flag| flag[..] == [1]),
            revision: revision.max(AuthStore::FIRST_REVISION),
            accounts: Accounts::load(stored)?,
            rules: None,
        })
    }

    /// The store of a new cluster, in which authentication is disabled.
    #[must_use]
    pub fn disabled() -> AuthStore {
        AuthStore {
            enabled: false,
            revision: AuthStore::FIRST_REVISION,
            accounts: Accounts::default(),
            rules: None,
        }
    }

    /// A store at `revision` with authentication enabled, in which `rules` decide. For tests of
    /// other crates.
    #[must_use]
    pub fn with_rules(revision: u64, rules: Arc<dyn Rules>) -> AuthStore {
        let rules = Some(rules);
        AuthStore { enabled: true, revision, rules, ..AuthStore::disabled() }
    }

    /// The revision of the auth store. Every change raises it, except enabling authentication.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether authentication is enabled.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// The stored data of a user.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&User> {
        self.accounts.user(name)
    }

    /// The door for one caller.
    #[must_use]
    pub fn door<'a>(&'a self, caller: &'a Caller) -> Door<'a> {
        Door { auth: self, caller }
    }

    /// Checks whether `caller` has permission for `request`. While authentication is disabled, all
    /// requests are allowed, whatever the caller's revision.
    ///
    /// # Errors
    /// In this order, as in etcd: no user, an old revision, a range that the user has no permission
    /// for.
    pub fn permit<R: Guarded>(&self, caller: &Caller, request: R) -> Result<Permitted<R>, Denied> {
        if self.enabled {
            request.each_access(&mut |access| self.check(caller, access))?;
        }
        Ok(Permitted::new(request))
    }

    /// Source: etcd v3.7 server/auth/store.go `isOpPermitted`.
    fn check(&self, caller: &Caller, access: Access<'_>) -> Result<(), Denied> {
        if caller.auth_revision == 0 {
            return Err(Denied::UserEmpty);
        }
        if caller.auth_revision < self.revision {
            return Err(Denied::OldRevision);
        }
        let allowed = match &self.rules {
            Some(rules) => rules.allow(&caller.user, access),
            None => self
                .accounts
                .user(&caller.user)
                .is_some_and(|user| has_role(user, ROOT) || self.accounts.allow(user, access)),
        };
        if allowed { Ok(()) } else { Err(Denied::PermissionDenied) }
    }

    /// Checks that `caller` is an administrator, which is a user with the role `root`. As in etcd,
    /// the revision at which the caller was authenticated does not matter.
    ///
    /// # Errors
    /// No user, one that does not exist, or one without the role.
    pub fn permit_admin(&self, caller: &Caller) -> Result<(), AuthRefusal> {
        if !self.enabled {
            return Ok(());
        }
        if caller.user.is_empty() {
            return Err(Denied::UserEmpty.into());
        }
        let user = self.accounts.user(&caller.user).ok_or(AuthRefusal::CallerNotFound)?;
        if has_role(user, ROOT) { Ok(()) } else { Err(Denied::PermissionDenied.into()) }
    }

    /// The caller for the permission checks of a lease's keys. An administrator gets the current
    /// revision: etcd lets administrators pass without checking the keys, and so without checking
    /// the revision.
    ///
    /// Source: etcd v3.7 server/etcdserver/apply/auth.go `checkLeasePutsKeys`.
    #[must_use]
    pub fn caller_of_lease(&self, caller: &Caller) -> Caller {
        let mut caller = caller.clone();
        if self.enabled && self.permit_admin(&caller).is_ok() {
            caller.auth_revision = self.revision;
        }
        caller
    }

    /// The caller in entries that the server itself proposes and that change keys: revocations of
    /// expired leases.
    ///
    /// Source: etcd v3.7 server/auth/store.go `WithRoot`.
    #[must_use]
    pub fn server(&self) -> Caller {
        match self.enabled {
            true => Caller { user: ROOT.to_owned(), auth_revision: self.revision },
            false => Caller::default(),
        }
    }
}

pub(crate) fn has_role(user: &User, role: &str) -> bool {
    user.roles.iter().any(|one| one == role)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::KeyRange;
    use bytes::Bytes;

    /// Permits alice to read the key `a`, and nothing else.
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
    fn what_is_stored_is_read() {
        let load = |enabled: Option<&'static [u8]>, revision: Option<&[u8]>| {
            let stored = Stored {
                enabled: enabled.map(Bytes::from_static),
                revision: revision.map(Bytes::copy_from_slice),
                ..Stored::default()
            };
            AuthStore::load(&stored).map(|store| (store.is_enabled(), store.revision()))
        };
        assert_eq!(load(None, None), Ok((false, 1)));
        assert_eq!(load(Some(&[1]), Some(&7u64.to_be_bytes())), Ok((true, 7)));
        assert_eq!(load(Some(&[0]), Some(&7u64.to_be_bytes())), Ok((false, 7)));
        assert_eq!(load(None, Some(&[7])), Err(LoadError::BadRevision));
        let row = vec![(Bytes::from("u"), Bytes::from_static(&[0xff]))];
        let users = Stored { users: row.clone(), ..Stored::default() };
        assert_eq!(AuthStore::load(&users).err(), Some(LoadError::BadUser("u".into())));
        let roles = Stored { roles: row, ..Stored::default() };
        assert_eq!(AuthStore::load(&roles).err(), Some(LoadError::BadRole("u".into())));
    }

    #[test]
    fn everything_is_allowed_while_authentication_is_off() {
        let store = AuthStore::disabled();
        assert!(store.permit(&Caller::default(), read("b")).is_ok());
        assert!(store.permit(&caller("alice", 0), read("b")).is_ok());
        assert_eq!(store.permit_admin(&Caller::default()), Ok(()));
        assert_eq!(store.server(), Caller::default());
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

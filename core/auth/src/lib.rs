//! Who may do what. [`State::permit`] is the only function that decides it, and what it returns,
//! [`Permitted`], is the only form in which `mvcc` and `watch` take a request.
//!
//! Today there is one rule, that of a store whose authentication is off: everyone may do
//! everything. A store on which it is on is refused ([`LoadError::Enabled`]), since to serve it
//! unguarded would be worse than not to serve it.
//!
//! Source: etcd v3.7 server/auth/store.go, server/storage/schema/auth.go.

#![forbid(unsafe_code)]

use std::fmt;

/// A request that was found to be allowed, or that nobody has to be asked about.
///
/// Invariant: only [`State::permit`] and [`Permitted::internal`] make one.
#[derive(Clone, Debug)]
pub struct Permitted<T>(T);

impl<T> Permitted<T> {
    /// For what the store does on its own account: restore, compaction, hashes, the expiry of
    /// leases. Never for what a client asked for.
    #[must_use]
    pub fn internal(request: T) -> Permitted<T> {
        Permitted(request)
    }

    /// The request.
    #[must_use]
    pub fn get(&self) -> &T {
        &self.0
    }

    /// The request, taken out.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// Who asks: the user and the revision of the auth store at which the user was authenticated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The user's name; empty without authentication.
    pub user: String,
    /// The auth revision of the caller's token; 0 without authentication.
    pub auth_revision: u64,
}

/// Why a request is not allowed. Nothing can be refused while authentication is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {}

impl fmt::Display for Reject {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// Why a store cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// Authentication is on, and guarding a store is not built yet.
    Enabled,
    /// The stored auth revision is not 8 bytes.
    BadRevision,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LoadError::Enabled => {
                "authentication is enabled in this data directory, and this server cannot guard \
                 it yet; it will not serve it unguarded"
            }
            LoadError::BadRevision => "the stored auth revision is not 8 bytes",
        })
    }
}

impl std::error::Error for LoadError {}

/// What is replicated of authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    revision: u64,
}

impl State {
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
    pub fn load(enabled: Option<&[u8]>, revision: Option<&[u8]>) -> Result<State, LoadError> {
        if enabled.is_some_and(|flag| flag == [1]) {
            return Err(LoadError::Enabled);
        }
        let revision = match revision {
            None => 0,
            Some(bytes) => {
                u64::from_be_bytes(bytes.try_into().map_err(|_| LoadError::BadRevision)?)
            }
        };
        Ok(State { revision: revision.max(State::FIRST_REVISION) })
    }

    /// The revision of the auth store.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Decides whether `caller` may do what `request` says.
    ///
    /// # Errors
    /// Never while authentication is off, which is all there is yet.
    pub fn permit<T>(&self, _caller: &Caller, request: T) -> Result<Permitted<T>, Reject> {
        Ok(Permitted(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enabled_store_is_refused() {
        assert_eq!(State::load(Some(&[1]), None), Err(LoadError::Enabled));
        assert_eq!(State::load(Some(&[0]), None), Ok(State { revision: 1 }));
    }

    #[test]
    fn the_stored_revision_is_read() {
        assert_eq!(State::load(None, Some(&7u64.to_be_bytes())), Ok(State { revision: 7 }));
        assert_eq!(State::load(None, Some(&[7])), Err(LoadError::BadRevision));
    }
}

//! A request lists the keys that it accesses ([`Guarded`]). A request that was allowed is
//! [`Permitted`].

use crate::range::KeyRange;
use std::fmt;

/// The access of an operation to the keys of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access<'a> {
    /// Reads keys, values or only whether keys exist.
    Read(&'a KeyRange),
    /// Puts or deletes keys.
    Write(&'a KeyRange),
}

/// A request of a client on keys.
pub trait Guarded {
    /// Calls `check` for every range that the request may read or write, in its canonical form,
    /// until it fails. Both branches of a transaction count, since it is not known yet which one
    /// will be executed. As in etcd, a request that accesses no key is allowed for every caller.
    ///
    /// # Errors
    /// The error of `check`.
    fn each_access(
        &self,
        check: &mut dyn FnMut(Access<'_>) -> Result<(), Denied>,
    ) -> Result<(), Denied>;
}

/// A request that only the server itself makes. Never implement this for the type of a client's
/// request.
pub trait Internal {}

/// A request that is allowed.
///
/// Invariant: for a client's request, only [`AuthStore::permit`](crate::AuthStore::permit) creates
/// one.
#[derive(Clone, Debug)]
pub struct Permitted<R>(R);

impl<R> Permitted<R> {
    pub(crate) fn new(request: R) -> Permitted<R> {
        Permitted(request)
    }

    /// The request.
    #[must_use]
    pub fn get(&self) -> &R {
        &self.0
    }

    /// Returns the request.
    #[must_use]
    pub fn into_inner(self) -> R {
        self.0
    }
}

impl<R: Internal> Permitted<R> {
    /// Permits a request of the server itself. With a client's request it does not compile:
    ///
    /// ```compile_fail
    /// use auth::{KeyRange, Permitted};
    /// let all = KeyRange::Span { from: "a".into(), end: None };
    /// let permitted = Permitted::internal(all);
    /// ```
    #[must_use]
    pub fn internal(request: R) -> Permitted<R> {
        Permitted(request)
    }
}

/// A read of the keys of a range, as in the comparisons of transactions.
impl Guarded for KeyRange {
    fn each_access(
        &self,
        check: &mut dyn FnMut(Access<'_>) -> Result<(), Denied>,
    ) -> Result<(), Denied> {
        check(Access::Read(self))
    }
}

/// Why a request is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The caller has no user, and authentication is enabled.
    UserEmpty,
    /// The caller was authenticated at an older revision of the auth store.
    OldRevision,
    /// The user may not read or write all keys of the request.
    PermissionDenied,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Denied::UserEmpty => "auth: user name is empty",
            Denied::OldRevision => "auth: revision in header is old",
            Denied::PermissionDenied => "auth: permission denied",
        })
    }
}

impl std::error::Error for Denied {}

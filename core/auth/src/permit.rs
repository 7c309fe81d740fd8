//! A request says which keys it touches ([`Guarded`]); one that was allowed is [`Permitted`].

use crate::range::KeyRange;
use std::fmt;

/// What an operation does with the keys of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access<'a> {
    /// Reads keys, values or only whether keys exist.
    Read(&'a KeyRange),
    /// Puts or deletes keys.
    Write(&'a KeyRange),
}

/// A request on keys that a client can ask for.
pub trait Guarded {
    /// Calls `check` for every range that carrying out the request may read or write, in its
    /// canonical form, until it fails. Which branch a transaction will take is not known yet, so
    /// both count. A request that touches no key is allowed to everybody, as in etcd.
    ///
    /// # Errors
    /// The error of `check`.
    fn each_access(
        &self,
        check: &mut dyn FnMut(Access<'_>) -> Result<(), Denied>,
    ) -> Result<(), Denied>;
}

/// A request that only the server makes, for its own needs. Never implement it for a type that a
/// client's request is turned into.
pub trait Internal {}

/// A request that is allowed.
///
/// Invariant: only [`AuthStore::permit`](crate::AuthStore::permit) makes one of a client's
/// request.
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

    /// The request, taken out.
    #[must_use]
    pub fn into_inner(self) -> R {
        self.0
    }
}

impl<R: Internal> Permitted<R> {
    /// Permits a request of the server itself. A client's request does not compile:
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

/// Reading the keys of a range, as compares do.
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
    /// The caller has no user, and authentication is on.
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

//! The credentials of a client: a name and a password, which it exchanges for tokens, or a token.
//!
//! Source: etcd v3.7.1 client/v3/client.go (`getToken`, `shouldRefreshToken`), retry_interceptor.go.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use tonic::Status;

/// The method that takes the password.
pub(crate) const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";

/// The errors after which a new token may help.
const STALE: [&str; 3] = [
    "etcdserver: user name is empty",
    "etcdserver: invalid auth token",
    "etcdserver: revision of auth store is old",
];

/// The credentials of a client.
pub(crate) struct Credentials {
    /// Name and password.
    pub(crate) user: Option<(String, String)>,
    token: Mutex<Option<String>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.user.as_ref().map(|(name, _)| name);
        f.debug_struct("Credentials").field("user", &name).finish_non_exhaustive()
    }
}

impl Credentials {
    pub(crate) fn new(user: Option<(String, String)>, token: Option<String>) -> Credentials {
        Credentials { user, token: Mutex::new(token.filter(|token| !token.is_empty())) }
    }

    /// The current token.
    pub(crate) fn token(&self) -> Option<String> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, token: Option<String>) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// Whether the call failed because of its token, and the client can get a new one.
    pub(crate) fn may_renew(&self, status: &Status) -> bool {
        self.user.is_some() && is_stale(status.message())
    }
}

/// Whether this is an error after which a new token may help.
pub(crate) fn is_stale(text: &str) -> bool {
    STALE.contains(&text)
}

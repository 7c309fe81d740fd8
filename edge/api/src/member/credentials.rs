//! The credentials of clients.

use crate::jwt::{Jwt, JwtOptions};
use crate::passwords::Passwords;
use crate::users::{UserCounts, UserLimits};
use std::rc::Rc;

/// Verifies the credentials of clients. Shared by all workers.
#[derive(Debug)]
pub struct Authenticator {
    pub(crate) passwords: Passwords,
    pub(super) tokens: TokenProvider,
    /// The requests in progress of each user.
    pub(super) requests: UserCounts,
    /// The bytes of the requests in progress of each user.
    pub(super) bytes: UserCounts,
    /// The open watches of each user.
    pub(super) watches: UserCounts,
}

/// The kind of tokens: `--auth-token`.
#[derive(Clone, Debug)]
pub enum TokenKind {
    /// None: clients are known by their certificates only.
    Off,
    /// Random ones that each member remembers.
    Simple,
    /// Signed ones.
    Jwt(JwtOptions),
}

/// Creates and reads tokens.
#[derive(Debug)]
pub(super) enum TokenProvider {
    Off,
    Simple,
    Jwt(Box<Jwt>),
}

impl Authenticator {
    /// With tokens of this kind, and passwords hashed with this cost of bcrypt. Reads the keys of
    /// JSON Web Tokens.
    ///
    /// # Errors
    /// When the system has no random numbers, or the keys cannot be used; with etcd's message.
    pub fn new(
        bcrypt_cost: u32,
        tokens: &TokenKind,
        limits: UserLimits,
    ) -> Result<Authenticator, String> {
        let passwords =
            Passwords::new(bcrypt_cost).map_err(|status| status.message.into_owned())?;
        let tokens = match tokens {
            TokenKind::Off => TokenProvider::Off,
            TokenKind::Simple => TokenProvider::Simple,
            TokenKind::Jwt(options) => TokenProvider::Jwt(Box::new(Jwt::open(options)?)),
        };
        Ok(Authenticator {
            passwords,
            tokens,
            requests: UserCounts::requests(limits),
            bytes: UserCounts::bytes(limits),
            watches: UserCounts::watches(limits),
        })
    }
}

/// The credentials of one call.
#[derive(Clone, Default)]
pub(super) struct Credentials {
    /// The token of its metadata.
    pub(super) token: Option<Rc<str>>,
    /// The common name in the verified certificate of its connection.
    pub(super) certificate_name: Option<Rc<str>>,
}

/// Shows no token.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

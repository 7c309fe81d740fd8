//! The credentials of clients.

use crate::passwords::Passwords;
use std::rc::Rc;

/// Verifies the credentials of clients. Shared by all workers.
#[derive(Debug)]
pub struct Authenticator {
    pub(crate) passwords: Passwords,
    /// Whether tokens are used: `--auth-token=` turns them off.
    pub(super) has_tokens: bool,
}

impl Authenticator {
    /// With simple tokens if `has_tokens`, and passwords hashed with this cost of bcrypt.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new(bcrypt_cost: u32, has_tokens: bool) -> Result<Authenticator, String> {
        let passwords =
            Passwords::new(bcrypt_cost).map_err(|status| status.message.into_owned())?;
        Ok(Authenticator { passwords, has_tokens })
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

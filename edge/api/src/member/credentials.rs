//! What clients prove who they are with.

use crate::passwords::Passwords;
use std::rc::Rc;

/// How clients prove who they are; shared by all workers.
#[derive(Debug)]
pub struct Authenticator {
    pub(crate) passwords: Passwords,
    /// Whether there are tokens at all: `--auth-token=` turns them off.
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

/// What a call brings to say who its client is.
#[derive(Clone, Default)]
pub(super) struct Credentials {
    /// The token of its metadata.
    pub(super) token: Option<Rc<str>>,
    /// The common name of the certificate that its connection was verified with.
    pub(super) certificate_name: Option<Rc<str>>,
}

/// Shows no token.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

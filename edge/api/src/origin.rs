//! Where a call comes from.

use net::RemoteName;
use std::rc::Rc;
use watch::ConnectionId;

/// Where a call comes from.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallOrigin {
    /// The connection.
    pub(crate) connection: ConnectionId,
    /// The client; `None` if it was gone before its address was read.
    pub(crate) address: Option<RemoteName>,
    /// The common name in the client's certificate. It is the user of a call without a token.
    pub(crate) certificate_name: Option<Rc<str>>,
    /// Whether the call comes through the JSON gateway.
    pub(crate) is_gateway: bool,
}

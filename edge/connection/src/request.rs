//! A request as it is passed to a handler.

use crate::body::RequestBody;
use crate::switch::Switch;
use http::request::Parts;
use std::rc::Rc;

/// A request of a client.
#[derive(Debug)]
pub struct ClientRequest {
    /// The head; requests with the same head may share it. The URI has only path and query. The
    /// authority is in the header `host` in both versions of HTTP, since it may have any bytes.
    pub head: Rc<Parts>,
    /// The body. Dropping it discards the rest.
    pub body: RequestBody,
    /// Where the connection can go on with another protocol: in HTTP/1.1.
    pub switch: Option<Switch>,
}

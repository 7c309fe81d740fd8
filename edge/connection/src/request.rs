//! A request as handlers get it.

use crate::body::RequestBody;
use http::request::Parts;
use std::rc::Rc;

/// A request of a client.
#[derive(Debug)]
pub struct ClientRequest {
    /// The head; requests with the same head may share it. The URI has only path and query: the
    /// authority, whatever its bytes, is the header `host`, in both versions of HTTP.
    pub head: Rc<Parts>,
    /// The body. Whoever drops it unread wants no more of it.
    pub body: RequestBody,
}

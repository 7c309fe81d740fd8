//! Heads of requests as the types of `http`. Clients of gRPC send the same head again and again, so
//! the last ones are kept.

use http::header::{CONNECTION, HOST};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use http2::Head;
use std::rc::Rc;

/// Heads that are kept for each connection: as many as its decoder knows.
const KEPT_MAX: usize = 4;

/// The heads that the client of one connection repeats.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    kept: Vec<(Rc<Head>, Rc<Parts>)>,
    /// Which one is replaced next.
    oldest: usize,
}

/// A head with a path or a name that no handler could take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadHead;

impl Heads {
    /// The head for a handler.
    pub(crate) fn parts(&mut self, head: &Rc<Head>) -> Result<Rc<Parts>, BadHead> {
        if let Some((_, parts)) = self.kept.iter().find(|(kept, _)| Rc::ptr_eq(kept, head)) {
            return Ok(Rc::clone(parts));
        }
        let parts = Rc::new(convert(head)?);
        // The decoder keeps those that may come again.
        if Rc::strong_count(head) > 1 {
            let kept = (Rc::clone(head), Rc::clone(&parts));
            if self.kept.len() < KEPT_MAX {
                self.kept.push(kept);
            } else {
                self.kept[self.oldest] = kept;
                self.oldest = (self.oldest + 1) % KEPT_MAX;
            }
        }
        Ok(parts)
    }
}

fn convert(head: &Head) -> Result<Parts, BadHead> {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.version = Version::HTTP_2;
    parts.method = Method::from_bytes(head.method()).map_err(|_| BadHead)?;
    parts.uri = match head.path() {
        // Only CONNECT has none.
        b"" => Uri::from_static("*"),
        path => PathAndQuery::try_from(path).map_err(|_| BadHead)?.into(),
    };
    parts.headers = headers(head)?;
    Ok(parts)
}

/// The fields; `:authority` becomes the host, as in Go's server.
fn headers(head: &Head) -> Result<HeaderMap, BadHead> {
    let mut headers = HeaderMap::with_capacity(head.fields().len());
    let mut authority = None;
    for field in head.fields() {
        match field.name() {
            b":authority" => authority = Some(field.value()),
            [b':', ..] => {}
            name => {
                let name = HeaderName::from_lowercase(name).map_err(|_| BadHead)?;
                let value = HeaderValue::from_bytes(field.value()).map_err(|_| BadHead)?;
                headers.try_append(name, value).map_err(|_| BadHead)?;
            }
        }
    }
    if let Some(authority) = authority.filter(|authority| !authority.is_empty()) {
        let value = HeaderValue::from_bytes(authority).map_err(|_| BadHead)?;
        headers.insert(HOST, value);
    }
    Ok(headers)
}

/// Whether a header of a response is of HTTP/1.1 alone (RFC 9113 §8.2.2).
pub(crate) fn is_of_http1(name: &HeaderName) -> bool {
    *name == CONNECTION
        || matches!(
            name.as_str(),
            "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade"
        )
}

//! The service as one call uses it: the state that all connections of the worker share, and the
//! host with the permissions of the call's client.

use crate::host::Host;
use crate::shared::Shared;
use http::HeaderMap;
use std::ops::Deref;
use std::rc::Rc;

/// The service for one call. Its host checks the permission of this call's client.
pub(crate) struct Session<H> {
    shared: Rc<Shared<H>>,
    /// The host for this call's client. (It hides the host of [`Shared`], which has no client.)
    pub(crate) host: H,
}

impl<H: Host> Session<H> {
    /// The service for a call with these headers. A token in them takes precedence over the name in
    /// the client's certificate.
    ///
    /// Source: etcd v3.7 server/auth/store.go `AuthInfoFromCtx`, api/v3rpc/rpctypes/metadatafields.go.
    pub(crate) fn new(
        shared: Rc<Shared<H>>,
        headers: &HeaderMap,
        name: Option<&str>,
    ) -> Session<H> {
        let token = headers.get("token").or_else(|| headers.get("authorization"));
        let host = match token {
            None => match name {
                None => shared.host.clone(),
                Some(name) => shared.host.with_certificate_name(name),
            },
            Some(token) => {
                let token = String::from_utf8_lossy(token.as_bytes());
                shared.host.with_token(token.strip_prefix("Bearer ").unwrap_or(&token))
            }
        };
        Session { shared, host }
    }
}

impl<H: Clone> Clone for Session<H> {
    fn clone(&self) -> Session<H> {
        Session { shared: Rc::clone(&self.shared), host: self.host.clone() }
    }
}

impl<H> Deref for Session<H> {
    type Target = Shared<H>;

    fn deref(&self) -> &Shared<H> {
        &self.shared
    }
}

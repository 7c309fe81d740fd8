//! The service as one call uses it: the state that all connections of the worker share, and the
//! host with the permissions of the call's client.

use crate::audit::{AuditRecord, Audited};
use crate::host::Host;
use crate::origin::CallOrigin;
use crate::shared::Shared;
use crate::spans::{Described, OpenSpan, RequestSpan};
use crate::users::Admitted;
use http::HeaderMap;
use rpc::Status;
use std::ops::Deref;
use std::rc::Rc;

/// The service for one call. Its host checks the permission of this call's client.
pub(crate) struct Session<H> {
    shared: Rc<Shared<H>>,
    /// The host for this call's client. (It hides the host of [`Shared`], which has no client.)
    pub(crate) host: H,
    audit: Option<Rc<AuditRecord>>,
    /// The span of the call, if it is recorded.
    span: Option<Rc<OpenSpan>>,
    /// Held as long as the call runs.
    admitted: Admitted,
}

impl<H: Host> Session<H> {
    /// The service for a call with these headers. A token in them takes precedence over the name in
    /// the client's certificate.
    ///
    /// Source: etcd v3.7 server/auth/store.go `AuthInfoFromCtx`, api/v3rpc/rpctypes/metadatafields.go.
    pub(crate) fn new(
        shared: Rc<Shared<H>>,
        headers: &HeaderMap,
        origin: &CallOrigin,
        audit: Option<Rc<AuditRecord>>,
    ) -> Session<H> {
        let token = headers.get("token").or_else(|| headers.get("authorization"));
        let host = match token {
            None => match &origin.certificate_name {
                None => shared.host.clone(),
                Some(name) => shared.host.with_certificate_name(name),
            },
            Some(token) => {
                let token = String::from_utf8_lossy(token.as_bytes());
                shared.host.with_token(token.strip_prefix("Bearer ").unwrap_or(&token))
            }
        };
        Session { shared, host, audit, span: None, admitted: Admitted::default() }
    }

    /// The same with the span of the call.
    pub(crate) fn in_span(self, span: Option<Rc<OpenSpan>>) -> Session<H> {
        Session { span, ..self }
    }

    /// Begins the span of a request that the member carries out for the call.
    pub(crate) fn request_span(&self, request: &impl Described) -> RequestSpan {
        RequestSpan::begin(self.span.as_deref(), request)
    }

    /// The span of the call, if it is recorded.
    pub(crate) fn span(&self) -> Option<&OpenSpan> {
        self.span.as_deref()
    }

    /// Takes a place among the requests of the client's user, for a request of so many bytes, and
    /// names the user in the audit log.
    ///
    /// # Errors
    /// The status for the client, when its user has too many requests, or too many bytes of them.
    pub(crate) async fn admitted(mut self, bytes: usize) -> Result<Session<H>, Status> {
        let admitted = self.host.admit(self.audit.is_some(), bytes).await;
        if let Some(audit) = &self.audit {
            audit.identify(match &admitted {
                Ok(admitted) => admitted.user.clone(),
                Err(_) => self.host.user().await,
            });
        }
        self.admitted = admitted?;
        Ok(self)
    }

    /// Tells the audit log the revision in the response's header.
    pub(crate) fn audit_revision(&self, revision: i64) {
        if let Some(audit) = &self.audit {
            audit.at(revision);
        }
    }

    /// Writes the line of one request of a stream.
    pub(crate) async fn audit_request(&self, request: &impl Audited, result: Result<(), &Status>) {
        if let Some(audit) = &self.audit {
            let user = self.host.user().await;
            audit.request(user.as_deref(), request, result.map(|()| self.host.revision()));
        }
    }

    /// Whether there is an audit log.
    pub(crate) fn is_audited(&self) -> bool {
        self.audit.is_some()
    }
}

impl<H: Clone> Clone for Session<H> {
    fn clone(&self) -> Session<H> {
        Session {
            shared: Rc::clone(&self.shared),
            host: self.host.clone(),
            audit: self.audit.clone(),
            span: self.span.clone(),
            admitted: self.admitted.clone(),
        }
    }
}

impl<H> Deref for Session<H> {
    type Target = Shared<H>;

    fn deref(&self) -> &Shared<H> {
        &self.shared
    }
}

//! The audit log: a line for each call of a client, with its user, the keys that it is about, and
//! whether it was allowed. Lines are made where every call passes (`service::route`): those of gRPC
//! and of the JSON gateway, and the calls that a lock or an election makes on behalf of its client.
//! Not here: the file (`embed`).
//!
//! A stream of watches or keep-alives has a line for each request in it that creates a watch or
//! renews a lease.

mod subject;

pub(crate) use subject::{Audited, Subject};

use http::request::Parts;
use net::RemoteName;
use rpc::body::Reply;
use rpc::{Code, Error, Status};
use serde_json::{Map, Value};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

/// One line, without its time.
#[derive(Debug)]
pub struct AuditLine {
    /// When the call began.
    pub begun: SystemTime,
    /// The fields, in order.
    pub fields: Map<String, Value>,
}

/// Takes the lines. It must not wait.
#[derive(Clone)]
pub struct AuditSink(Arc<dyn Fn(AuditLine) + Send + Sync>);

impl fmt::Debug for AuditSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditSink")
    }
}

impl AuditSink {
    /// A sink that calls `take` for each line.
    pub fn new(take: impl Fn(AuditLine) + Send + Sync + 'static) -> AuditSink {
        AuditSink(Arc::new(take))
    }

    /// Takes a line.
    pub fn take(&self, line: AuditLine) {
        (self.0)(line);
    }
}

/// The line of one call. Written when the call ends, in any way.
pub(crate) struct AuditRecord {
    sink: AuditSink,
    begun: SystemTime,
    head: Rc<Parts>,
    /// The client's own call, if this one is made on behalf of it; or `gateway`.
    via: Option<String>,
    address: Option<RemoteName>,
    user: RefCell<Option<Rc<str>>>,
    subject: RefCell<Subject>,
    /// The revision in the response's header, if the handler has told it.
    revision: Cell<Option<i64>>,
    /// Whether the call needs no further line of its own.
    is_written: Cell<bool>,
}

/// The end of a call.
enum CallEnd<'a> {
    /// It was allowed and has succeeded.
    Done { revision: i64 },
    /// It was refused, or has failed.
    Refused(&'a Status),
    /// Its client is gone, or its deadline has passed.
    Abandoned,
}

impl AuditRecord {
    pub(crate) fn begin(
        sink: &AuditSink,
        head: &Rc<Parts>,
        via: Option<String>,
        address: Option<RemoteName>,
    ) -> Rc<AuditRecord> {
        Rc::new(AuditRecord {
            sink: sink.clone(),
            begun: SystemTime::now(),
            head: Rc::clone(head),
            via,
            address,
            user: RefCell::default(),
            subject: RefCell::default(),
            revision: Cell::new(None),
            is_written: Cell::new(false),
        })
    }

    /// Sets the user of the call.
    pub(crate) fn identify(&self, user: Option<Rc<str>>) {
        *self.user.borrow_mut() = user;
    }

    /// Sets the keys and names of the call.
    pub(crate) fn about(&self, request: &impl Audited) {
        *self.subject.borrow_mut() = Subject::of(request);
    }

    /// Sets the revision in the response's header.
    pub(crate) fn at(&self, revision: i64) {
        self.revision.set(Some(revision));
    }

    /// The call is a stream of requests, each of which gets its own line.
    pub(crate) fn is_stream(&self) {
        self.is_written.set(true);
    }

    /// Writes the line of one request of a stream.
    pub(crate) fn request(
        &self,
        user: Option<&str>,
        request: &impl Audited,
        result: Result<i64, &Status>,
    ) {
        let outcome = match result {
            Ok(revision) => CallEnd::Done { revision },
            Err(status) => CallEnd::Refused(status),
        };
        self.send(SystemTime::now(), user, Subject::of(request), &outcome);
    }

    /// Writes the line of the call. `revision` is the current one.
    fn end(&self, replied: Option<&Result<Reply, Status>>, revision: i64) {
        // A stream of requests that was refused as a whole has a line, too.
        if self.is_written.replace(true) && !matches!(replied, Some(Err(_))) {
            return;
        }
        let outcome = match replied {
            None => CallEnd::Abandoned,
            Some(Ok(_)) => CallEnd::Done { revision: self.revision.get().unwrap_or(revision) },
            Some(Err(status)) => CallEnd::Refused(status),
        };
        let subject = self.subject.take();
        self.send(self.begun, self.user.borrow().as_deref(), subject, &outcome);
    }

    fn send(&self, begun: SystemTime, user: Option<&str>, subject: Subject, outcome: &CallEnd<'_>) {
        let mut fields = Map::new();
        let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        if let Some(user) = user {
            set("user", user.into());
        }
        if let Some(address) = self.address {
            set("address", address.to_string().into());
        }
        set("method", self.head.uri.path().into());
        if let Some(via) = &self.via {
            set("via", via.as_str().into());
        }
        subject.put(&mut fields);
        outcome.put(&mut fields);
        self.sink.take(AuditLine { begun, fields });
    }
}

impl CallEnd<'_> {
    fn put(&self, fields: &mut Map<String, Value>) {
        let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        match self {
            CallEnd::Done { revision } => {
                set("revision", (*revision).into());
                set("result", "ok".into());
            }
            CallEnd::Refused(status) => {
                set("result", if is_denial(status) { "denied" } else { "failed" }.into());
                set("code", format!("{:?}", status.code).into());
                set("reason", status.message.as_ref().into());
            }
            CallEnd::Abandoned => {
                set("result", "failed".into());
                set("code", format!("{:?}", Code::Cancelled).into());
                set("reason", "the client is gone, or its deadline has passed".into());
            }
        }
    }
}

/// Whether the client was refused because of its user, password, token or permissions.
fn is_denial(status: &Status) -> bool {
    [
        Error::UserEmpty,
        Error::AuthOldRevision,
        Error::PermissionDenied,
        Error::InvalidAuthToken,
        Error::AuthFailed,
    ]
    .into_iter()
    .any(|error| Status::from(error) == *status)
}

/// Writes the line of a call when it ends, also if its future is dropped.
pub(crate) struct AuditGuard(pub(crate) Option<Rc<AuditRecord>>);

impl AuditGuard {
    /// The call has this result; `revision` is the current one.
    pub(crate) fn end(self, replied: &Result<Reply, Status>, revision: impl FnOnce() -> i64) {
        if let Some(record) = &self.0 {
            record.end(Some(replied), revision());
        }
    }
}

impl Drop for AuditGuard {
    fn drop(&mut self) {
        if let Some(record) = &self.0 {
            record.end(None, 0);
        }
    }
}

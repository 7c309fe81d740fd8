//! Calls in the metrics: what is begun, comes, goes and ends.
//!
//! Source: go-grpc-prometheus (calls), etcd server/etcdserver/api/v3rpc/codec.go (bytes).

use crate::host::Host;
use crate::service::Inner;
use rpc::body::Reply;
use rpc::{Code, Status};
use server::metrics::grpc::{Kind, Method};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A call that has begun.
pub(crate) enum Counted {
    /// One request, one answer.
    Unary(Arc<Method>, Instant),
    /// It streams.
    Streamed(Rc<Streamed>),
}

impl Counted {
    pub(crate) fn begin<H: Host>(host: &H, path: &str) -> Option<Counted> {
        let method = host.counters(path)?;
        method.started.inc();
        let begun = Instant::now();
        Some(match method.kind() {
            Kind::Unary => Counted::Unary(method, begun),
            Kind::ServerStream | Kind::BidiStream => {
                let code = Cell::new(Code::Cancelled);
                Counted::Streamed(Rc::new(Streamed { method, begun, code }))
            }
        })
    }

    pub(crate) fn streamed(&self) -> Option<Rc<Streamed>> {
        match self {
            Counted::Unary(..) => None,
            Counted::Streamed(streamed) => Some(Rc::clone(streamed)),
        }
    }

    /// The call was answered; one that streams has its end still before it, unless it was refused.
    /// A unary call that took longer than `slow` is logged.
    pub(crate) fn answered(&self, replied: &Result<Reply, Status>, slow: Duration) {
        let code = replied.as_ref().map_or_else(|status| status.code, |_| Code::Ok);
        match self {
            Counted::Unary(method, begun) => {
                method.received.inc();
                if code == Code::Ok {
                    method.sent.inc();
                }
                let took = begun.elapsed();
                method.handled(code as u32, took.as_secs_f64());
                if took > slow {
                    let path = method.path();
                    tracing::warn!("time spent" = ?took, "response type" = path, "request stats");
                }
            }
            Counted::Streamed(streamed) => {
                if code != Code::Ok {
                    streamed.code.set(code);
                }
            }
        }
    }
}

/// A call that streams. It ends when the last who has to do with it lets go; who left before that
/// was said to be the end has cancelled it.
pub(crate) struct Streamed {
    method: Arc<Method>,
    begun: Instant,
    code: Cell<Code>,
}

impl Drop for Streamed {
    fn drop(&mut self) {
        self.method.handled(self.code.get() as u32, self.begun.elapsed().as_secs_f64());
    }
}

/// What the handler of a call that streams counts with.
pub(crate) struct Tally<H> {
    pub(crate) service: Rc<Inner<H>>,
    streamed: Option<Rc<Streamed>>,
}

impl<H> Clone for Tally<H> {
    fn clone(&self) -> Tally<H> {
        Tally { service: Rc::clone(&self.service), streamed: self.streamed.clone() }
    }
}

impl<H: Host> Tally<H> {
    pub(crate) fn new(service: Rc<Inner<H>>, streamed: Option<Rc<Streamed>>) -> Tally<H> {
        Tally { service, streamed }
    }

    /// A message of this length has come.
    pub(crate) fn received(&self, bytes: usize) {
        self.service.host.count_received(bytes);
        if let Some(streamed) = &self.streamed {
            streamed.method.received.inc();
        }
    }

    /// Messages go, together of this length.
    pub(crate) fn sent(&self, messages: usize, bytes: usize) {
        self.service.host.count_sent(bytes);
        if let Some(streamed) = &self.streamed {
            streamed.method.sent.inc_by(messages as u64);
        }
    }

    /// The call ends with this code, as soon as everybody lets go of it.
    pub(crate) fn end(&self, code: Code) {
        if let Some(streamed) = &self.streamed {
            streamed.code.set(code);
        }
    }
}

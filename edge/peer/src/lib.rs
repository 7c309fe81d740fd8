//! etcd's peer protocol over HTTP/1.1. [`Transport`] sends raft's messages and opens the streams to
//! other members; [`PeerService`] serves the peer port; [`remote`] has the requests of a member
//! that starts or forwards.
//!
//! - **Invariant:** sending never waits. Queues are bounded. A message that does not fit is dropped
//!   and its receiver reported as unreachable.
//! - **Invariant:** members share no queue, connection or task, so a slow or dead member delays no
//!   other.
//! - **Invariant:** the status 403 is never sent, and 410 only for a stream of a removed member: a
//!   Go member that receives them stops for ever.
//!
//! Each side opens two streams to the other side, and reads from them. It writes its own messages
//! to the streams that the other side has opened. While such a stream is not open, messages are
//! sent as single requests.
//!
//! Not here: TLS (`net`); what a message means (`core/raft`); its bytes (`core/wire`).
//!
//! Source: etcd v3.7 server/etcdserver/api/rafthttp.

mod activity;
mod counters;
mod dial;
mod http1;
mod limits;
mod link;
mod outgoing;
mod pipeline;
mod probe;
mod reader;
pub mod remote;
mod service;
mod shared;
mod snapshot_receive;
mod snapshot_send;
mod start;
mod transport;
mod urls;
mod writer;

pub use dial::Dialer;
pub use limits::STREAM_TIME_MIN;
pub use service::{HostRefusal, PeerHost, PeerService};
pub use shared::{Deliver, TransportOptions};
pub use transport::Transport;

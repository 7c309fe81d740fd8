//! Between members: etcd's peer protocol over HTTP/1.1. [`Transport`] sends what raft wants to send
//! and opens the streams to other members; [`PeerService`] answers on the peers' port; [`remote`] has
//! the requests of a member that starts or forwards.
//!
//! - **Invariant:** sending never waits. Queues are bounded; what does not fit is dropped and
//!   reported as unreachable.
//! - **Invariant:** members share no queue, connection or task, so that a slow or dead one delays no
//!   other.
//! - **Invariant:** the status 403 is never sent, and 410 only for a stream of a removed member: a
//!   Go member that reads them stops for ever.
//!
//! Each side opens the other's two streams and reads from them; what it has to say it writes to the
//! streams that the other has opened. While one is not open, messages go out as single requests.
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

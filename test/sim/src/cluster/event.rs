//! The events of the world.

use super::fault::FaultKind;
use super::gateway::{Request, Response};
use super::process::Machine;
use bytes::Bytes;
use proto::NodeId;
use proto::etcdserverpb::{WatchCreateRequest, WatchResponse};

/// An event. `at` is the index of a host. Events for an earlier process of the host are dropped.
#[derive(Debug)]
pub(crate) enum Event {
    /// A machine finishes its next piece of work, whose effects happen now.
    Work { at: usize, process: u32, machine: Machine },
    /// A heartbeat interval of a member has passed.
    Tick { at: usize, process: u32 },
    /// A message arrives.
    Message { at: usize, bytes: Bytes },
    /// A message to another member could not be sent.
    Unreachable { at: usize, process: u32, peer: NodeId },
    /// A snapshot arrives, with its file.
    Snapshot { at: usize, from: usize, body: Bytes },
    /// The sender of a snapshot learns whether it was delivered.
    SnapshotSent { at: usize, peer: NodeId, delivered: bool },
    /// A request of a client arrives.
    Request { at: usize, process: u32, call: u64, request: Request },
    /// An answer arrives at its client.
    Response { call: u64, response: Response },
    /// A client gives a call up, or its connection breaks.
    GiveUp { call: u64 },
    /// A client makes its next call.
    Next { client: usize },
    /// A watch connects to a member, if `instead` is its current connection; 0 stands for none.
    WatchConnect { watch: usize, instead: u64 },
    /// The create request of a watch arrives.
    WatchCreate { at: usize, process: u32, ticket: u64, request: WatchCreateRequest },
    /// The client of a watch requests progress.
    WatchProgress { watch: usize, ticket: u64 },
    /// Responses of a watch arrive.
    Watched { ticket: u64, response: Box<WatchResponse> },
    /// The process of a member starts.
    Boot { at: usize },
    /// The process of a member ends, with or without a power failure of its machine.
    Stop { at: usize, process: u32, power_loss: bool },
    /// A paused process continues.
    Resume { at: usize, process: u32 },
    /// A process that knows that its member was removed ends.
    Leave { at: usize, process: u32 },
    /// Another member tells a process that its member was removed.
    Gone { at: usize, process: u32 },
    /// The operator looks at the cluster.
    Operate,
    /// The next fault begins.
    Fault,
    /// A fault ends.
    EndFault { kind: FaultKind, number: u64 },
}

impl Event {
    /// A number for the trace, made of its kind and host.
    pub(crate) fn trace(&self) -> u64 {
        let (kind, place) = match self {
            Event::Work { at, machine, .. } => (*machine as u64, *at as u64),
            Event::Tick { at, .. } => (10, *at as u64),
            Event::Message { at, bytes } => {
                (11, (*at as u64) ^ (u64::from(crc32c::crc32c(bytes)) << 8))
            }
            Event::Unreachable { at, .. } => (12, *at as u64),
            Event::Snapshot { at, body, .. } => (13, (*at as u64) ^ ((body.len() as u64) << 8)),
            Event::SnapshotSent { at, delivered, .. } => {
                (14, *at as u64 * 2 + u64::from(*delivered))
            }
            Event::Request { call, .. } => (15, *call),
            Event::Response { call, .. } => (16, *call),
            Event::GiveUp { call } => (17, *call),
            Event::Next { client } => (18, *client as u64),
            Event::WatchConnect { watch, .. } => (19, *watch as u64),
            Event::WatchCreate { ticket, .. } => (20, *ticket),
            Event::WatchProgress { watch, .. } => (21, *watch as u64),
            Event::Watched { ticket, .. } => (22, *ticket),
            Event::Boot { at } => (23, *at as u64),
            Event::Stop { at, .. } => (24, *at as u64),
            Event::Resume { at, .. } => (25, *at as u64),
            Event::Fault => (26, 0),
            Event::EndFault { kind, .. } => (27, *kind as u64),
            Event::Leave { at, .. } => (28, *at as u64),
            Event::Gone { at, .. } => (29, *at as u64),
            Event::Operate => (30, 0),
        };
        (kind << 56) ^ place
    }

    /// The host and process at which it happens, if it happens in a process.
    pub(crate) fn place(&self) -> Option<(usize, Option<u32>)> {
        match self {
            Event::Work { at, process, .. }
            | Event::Tick { at, process }
            | Event::Unreachable { at, process, .. }
            | Event::Request { at, process, .. }
            | Event::Leave { at, process }
            | Event::Gone { at, process }
            | Event::WatchCreate { at, process, .. } => Some((*at, Some(*process))),
            Event::Message { at, .. }
            | Event::Snapshot { at, .. }
            | Event::SnapshotSent { at, .. } => Some((*at, None)),
            Event::Response { .. }
            | Event::GiveUp { .. }
            | Event::Next { .. }
            | Event::WatchConnect { .. }
            | Event::WatchProgress { .. }
            | Event::Watched { .. }
            | Event::Boot { .. }
            | Event::Stop { .. }
            | Event::Resume { .. }
            | Event::Operate
            | Event::Fault
            | Event::EndFault { .. } => None,
        }
    }
}

//! The messages that etcd stores and sends, generated from our own .proto files, and newtypes for
//! terms, indexes, ids and revisions. Not here: gRPC (`rpc`), the meaning of the messages.

pub mod answer;
pub mod go_json;
mod ids;
mod op;
mod raft;
pub mod varint;

pub use ids::{EntryId, Index, LeaseId, NodeId, Revision, RevisionBytesError, Term};
pub use op::Op;
pub use raft::{ConfChange, ConfState, Entry, EntryKind, HardState, RaftDecodeError};

/// Generated: the v3 API and the content of raft entries.
#[expect(missing_docs, reason = "generated; the .proto file is the documentation")]
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}
/// Generated: key-values and events.
#[expect(missing_docs, reason = "generated; the .proto file is the documentation")]
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}
/// Generated: users, roles, permissions.
#[expect(missing_docs, reason = "generated; the .proto file is the documentation")]
pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
}
/// Generated: raft messages. The core uses [`Entry`], [`HardState`] and [`ConfState`] instead.
#[expect(missing_docs, reason = "generated; the .proto file is the documentation")]
pub mod raftpb {
    include!(concat!(env!("OUT_DIR"), "/raftpb.rs"));
}
/// Generated: WAL records.
#[expect(missing_docs, reason = "generated; the .proto file is the documentation")]
pub mod walpb {
    include!(concat!(env!("OUT_DIR"), "/walpb.rs"));
}
/// Generated: the outer message of a .snap file.
#[expect(missing_docs, reason = "generated; the .proto file is the documentation")]
pub mod snappb {
    include!(concat!(env!("OUT_DIR"), "/snappb.rs"));
}
/// Generated: leases as stored.
#[expect(missing_docs, reason = "generated; the .proto file is the documentation")]
pub mod leasepb {
    include!(concat!(env!("OUT_DIR"), "/leasepb.rs"));
}
/// Generated: membership requests.
#[expect(missing_docs, reason = "generated; the .proto file is the documentation")]
pub mod membershippb {
    include!(concat!(env!("OUT_DIR"), "/membershippb.rs"));
}
/// Generated: locks.
#[expect(missing_docs, reason = "generated; the .proto file is the documentation")]
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
}
/// Generated: elections.
#[expect(missing_docs, reason = "generated; the .proto file is the documentation")]
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
}
/// Generated: gRPC health checking.
#[expect(missing_docs, reason = "generated; the .proto file is the documentation")]
pub mod healthpb {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

//! The bytes between members, as etcd's peers write them: frames of the streams, bodies of requests,
//! headers and their checks, JSON. Encoders and incremental decoders without I/O.
//!
//! - **Invariant:** no input makes a decoder panic, and no memory is allocated for a length that is
//!   only announced: a decoder holds the bytes that have arrived, at most one frame of its limit
//!   and a chunk.
//! - **Invariant:** a decoder that has failed always fails, so that no frame is read at a wrong
//!   position.
//!
//! Not here: connections, time limits and the choice of the member (`edge/peer`).
//!
//! Source: etcd v3.7 server/etcdserver/api/rafthttp.

mod append_stream;
mod error;
pub mod headers;
mod input;
mod json;
mod message;
mod message_stream;
mod snapshot_head;

pub use append_stream::{AppendDecoder, AppendEncoder};
pub use error::WireError;
pub use headers::{
    LocalPeer, PeerHeaders, PeerRefusal, Roster, StreamKind, StreamRefusal, check_stream_response,
};
pub use json::{HashKvAnswer, HashKvQuery, PeerVersions, hash_kv_query, members_from_json};
pub use message::{
    ENTRIES_MAX, MESSAGE_BYTES_MAX, Received, decode_message, encode_message, put_heartbeat,
};
pub use message_stream::{MessageDecoder, put_message};
pub use snapshot_head::{SnapshotHeadDecoder, encode_snapshot_head};

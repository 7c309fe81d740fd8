//! The limits of the traffic between members.
//!
//! Source: etcd v3.7 rafthttp/{peer,pipeline,stream,remote}.go.

use std::time::Duration;

/// Messages that wait for a stream.
pub(crate) const STREAM_QUEUE_MAX: usize = 4096;
/// Messages that wait for a request of their own.
pub(crate) const PIPELINE_QUEUE_MAX: usize = 64;
/// The bytes of entries that one queue holds. A larger message is taken only when the queue is
/// empty.
/// etcd has no such bound.
pub(crate) const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Requests to one member at a time.
pub(crate) const PIPELINE_CONNECTIONS: usize = 4;
/// Messages are joined to chunks of a stream up to this size.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;
/// An idle stream gets this many heartbeats in the time after which its reader would close it.
pub(crate) const LINK_HEARTBEATS: u32 = 3;
/// The shortest and usual [`crate::TransportOptions::read_time_max`] and `write_time_max`.
pub const STREAM_TIME_MIN: Duration = Duration::from_secs(5);
/// The time for the answer to a probe.
pub(crate) const PROBE_TIME_MAX: Duration = Duration::from_secs(5);
/// The pause before a stream is opened again.
pub(crate) const REDIAL: Duration = Duration::from_millis(100);
/// The time for a single message, from the connection to the answer. etcd has no such bound.
pub(crate) const POST_TIME_MAX: Duration = Duration::from_secs(10);
/// How often a member is probed.
pub(crate) const PROBE: Duration = Duration::from_secs(4);
/// The difference of two members' clocks that is worth a warning.
pub(crate) const CLOCK_DRIFT_MAX: Duration = Duration::from_secs(1);
/// The maximum number of senders that are not known as members yet and still get answers. etcd has
/// no such bound.
pub(crate) const REMOTES_MAX: usize = 64;
/// The bytes of single messages that are read at a time, over all connections.
pub(crate) const BODIES_BYTES_MAX: usize = 128 << 20;
/// The time in which a member must take some bytes of a snapshot, or answer after the last.
pub(crate) const SNAPSHOT_STALLED_MAX: Duration = Duration::from_secs(30);
/// The time for the answer after the last byte of a snapshot. The receiver first syncs the file.
pub(crate) const SNAPSHOT_ANSWER_MAX: Duration = Duration::from_secs(5 * 60);
/// Chunks of a snapshot between the disk and the connection.
pub(crate) const SNAPSHOT_CHUNKS: usize = 4;
/// The longest text of an error or a probe that is read.
pub(crate) const TEXT_BYTES_MAX: usize = 64 << 10;

//! The way to the other members. The transport is in `peer`, which is above this crate.

use cluster::Cluster;
use proto::NodeId;
use raft::Message;
use std::fmt;
use std::time::Instant;

/// Where the messages to other members go. No call may wait: a message that cannot be queued is
/// dropped.
pub trait Peers: Send + Sync + fmt::Debug {
    /// Sends messages to the members that they name.
    fn send(&self, messages: Vec<Message>);

    /// Sends a snapshot with its database file, then reports to
    /// [`crate::Handle::report_snapshot`].
    fn send_snapshot(&self, message: Message, file: bolt::View);

    /// The members, their URLs or the removed members have changed.
    fn set_members(&self, cluster: &Cluster);

    /// Since when another member has been reached without a failure; none if it is not reached.
    fn active_since(&self, member: NodeId) -> Option<Instant>;
}

/// No way to other members: for a member that has none, and for tests.
#[derive(Clone, Copy, Debug)]
pub struct NoPeers;

impl Peers for NoPeers {
    fn send(&self, _: Vec<Message>) {}

    fn send_snapshot(&self, _: Message, _: bolt::View) {}

    fn set_members(&self, _: &Cluster) {}

    fn active_since(&self, _: NodeId) -> Option<Instant> {
        None
    }
}

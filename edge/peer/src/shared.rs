//! The state that all parts of the transport share: this member, the other members, and the
//! receiver of messages.

use crate::counters::Counters;
use crate::dial::Dialer;
use crate::limits::BODIES_BYTES_MAX;
use crate::link::Link;
use cluster::Version;
use proto::NodeId;
use raft::Message;
use server::metrics::Metrics;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use tokio::runtime::Handle;
use vfs::Vfs;
use wire::{LocalPeer, MESSAGE_BYTES_MAX, Roster};

/// Takes messages and reports from the transport. No method may wait: the threads of the transport
/// and of the peer port call them, and so does [`crate::Transport::send`].
pub trait Deliver: Send + Sync + 'static {
    /// A message for this member. It is dropped if it cannot be queued. A message with a snapshot
    /// is passed on once its database is durable as `<index>.snap.db` in the directory for
    /// snapshots.
    fn message(&self, message: Message);
    /// A message to this member was lost.
    fn unreachable(&self, peer: NodeId);
    /// Whether a snapshot has reached its receiver.
    fn snapshot_sent(&self, peer: NodeId, ok: bool);
    /// Another member reports that this one was removed from the cluster, so it must stop.
    fn removed(&self);
}

/// The options of a transport.
#[derive(Clone)]
pub struct TransportOptions {
    /// This member's id.
    pub member: NodeId,
    /// The cluster's id.
    pub cluster: u64,
    /// The version that other members are told.
    pub version: Version,
    /// This member's advertised peer URLs.
    pub peer_urls: Vec<String>,
    /// Opens the connections to other members.
    pub dialer: Dialer,
    /// A reader closes a stream on which no byte arrives for this long. Heartbeats are sent three
    /// times as often, so all members need the same value.
    pub read_time_max: Duration,
    /// A stream that takes no byte for this long is closed by its writer.
    pub write_time_max: Duration,
    /// The largest request that a client may send. A message that contains it is larger.
    pub request_bytes_max: usize,
    /// The largest database that is received.
    pub database_bytes_max: u64,
    /// The disk of the directory for snapshots.
    pub disk: Arc<dyn Vfs>,
    /// The directory for snapshots.
    pub snap_dir: PathBuf,
    /// The metrics of the traffic.
    pub metrics: Arc<Metrics>,
}

impl fmt::Debug for TransportOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportOptions")
            .field("member", &self.member)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

pub(crate) struct Shared {
    /// This member, with its version at the start.
    pub(crate) local: LocalPeer,
    /// The version that other members are told now.
    announced: RwLock<Version>,
    pub(crate) deliver: Arc<dyn Deliver>,
    pub(crate) options: TransportOptions,
    pub(crate) counters: Counters,
    pub(crate) runtime: Handle,
    table: RwLock<Table>,
    /// Bytes of single messages that are being read.
    bodies: AtomicUsize,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("local", &self.local).finish_non_exhaustive()
    }
}

/// The other members.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) peers: BTreeMap<NodeId, Arc<Link>>,
    /// Senders that this member does not know as members (yet). They get single messages only.
    pub(crate) remotes: BTreeMap<NodeId, Arc<Link>>,
    pub(crate) removed: BTreeSet<NodeId>,
}

impl Shared {
    pub(crate) fn new(
        options: TransportOptions,
        deliver: Arc<dyn Deliver>,
        runtime: Handle,
    ) -> Arc<Shared> {
        let local = LocalPeer {
            member: options.member,
            cluster: options.cluster,
            version: options.version,
            peer_urls: options.peer_urls.clone(),
        };
        let counters = Counters { metrics: Arc::clone(&options.metrics), local: options.member };
        let announced = RwLock::new(options.version);
        let (table, bodies) = (RwLock::default(), AtomicUsize::new(0));
        Arc::new(Shared { local, announced, deliver, options, counters, runtime, table, bodies })
    }

    /// This member, as it presents itself to others now.
    pub(crate) fn local(&self) -> LocalPeer {
        let version = *self.announced.read().unwrap_or_else(PoisonError::into_inner);
        LocalPeer { version, ..self.local.clone() }
    }

    /// Sets the version that other members are told from now on.
    pub(crate) fn announce(&self, version: Version) {
        let mut announced = self.announced.write().unwrap_or_else(PoisonError::into_inner);
        if *announced != version {
            tracing::info!(from = %announced, to = %version, "announcing another version to the members");
            *announced = version;
        }
    }

    pub(crate) fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The largest message that is read: at least twice the largest request of a client.
    pub(crate) fn message_bytes_max(&self) -> usize {
        MESSAGE_BYTES_MAX.max(self.options.request_bytes_max.saturating_mul(2))
    }

    /// Passes a message on.
    ///
    /// # Errors
    /// When it is for another member or from a removed one.
    pub(crate) fn receive(&self, message: Message) -> Result<(), String> {
        self.check_ends(&message)?;
        self.deliver.message(message);
        Ok(())
    }

    pub(crate) fn check_ends(&self, message: &Message) -> Result<(), String> {
        let (from, to, local) = (message.from, message.to, self.local.member);
        if self.table().removed.contains(&from) {
            tracing::warn!(
                "local-member-id" = format!("{local:x}"),
                "from" = format!("{from:x}"),
                "rejected Raft message from removed member"
            );
            return Err("cannot process message from removed member".to_owned());
        }
        if to != local {
            tracing::warn!(
                "local-member-id" = format!("{local:x}"),
                "to" = format!("{to:x}"),
                "rejected Raft message to mismatch member"
            );
            return Err("cannot process message to mismatch member".to_owned());
        }
        Ok(())
    }

    /// Counts the bytes of a body that is being read. `None` when there are too many.
    pub(crate) fn take_body(self: &Arc<Self>, bytes: usize) -> Option<BodyBytes> {
        let before = self.bodies.fetch_add(bytes, Ordering::Relaxed);
        let taken = BodyBytes(Arc::clone(self), bytes);
        (before == 0 || before + bytes <= BODIES_BYTES_MAX).then_some(taken)
    }
}

impl Roster for Shared {
    fn is_removed(&self, member: NodeId) -> bool {
        self.table().removed.contains(&member)
    }

    fn is_peer(&self, member: NodeId) -> bool {
        self.table().peers.contains_key(&member)
    }
}

/// Counts the bytes of a body until this is dropped.
#[derive(Debug)]
pub(crate) struct BodyBytes(Arc<Shared>, usize);

impl Drop for BodyBytes {
    fn drop(&mut self) {
        self.0.bodies.fetch_sub(self.1, Ordering::Relaxed);
    }
}

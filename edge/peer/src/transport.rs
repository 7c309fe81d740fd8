//! The transport, which the rest of the server uses. Its thread opens streams, sends single
//! messages and snapshots, and probes the other members.
//!
//! Source: etcd v3.7 rafthttp/transport.go, etcdserver/raft.go (`processMessages`).

use crate::link::Link;
use crate::service::{PeerHost, PeerService};
use crate::shared::{Deliver, Shared, TransportOptions};
use crate::{snapshot_receive, snapshot_send, start};
use cluster::Version;
use proto::NodeId;
use raft::{Body, Message};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long a stop waits for blocking tasks.
const STOP_TIME_MAX: Duration = Duration::from_secs(1);

/// Sends messages to other members, and receives those that they send to this one.
#[derive(Debug)]
pub struct Transport {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Transport {
    /// Starts the thread. There are no other members before [`Transport::set_members`].
    ///
    /// # Errors
    /// When the thread or its runtime cannot be started.
    pub fn start(options: TransportOptions, deliver: Arc<dyn Deliver>) -> io::Result<Transport> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        snapshot_receive::remove_leftovers(&*options.disk, &options.snap_dir);
        let shared = Shared::new(options, deliver, runtime.handle().clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("peer".to_owned()).spawn(move || {
            // An error means that the transport was dropped, which also ends the thread.
            drop(runtime.block_on(stopped));
            runtime.shutdown_timeout(STOP_TIME_MAX);
        })?;
        Ok(Transport { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Queues messages to other members. Never waits: a message that does not fit is dropped, and its
    /// receiver is reported as unreachable. The same happens to a message with a snapshot, which must
    /// be sent by [`Transport::send_snapshot`].
    pub fn send(&self, messages: Vec<Message>) {
        let (mut dropped, mut wakers) = (Vec::new(), Vec::new());
        let table = self.shared.table();
        for message in messages {
            let to = message.to;
            if to == NodeId::NONE || table.removed.contains(&to) {
                continue;
            }
            let Some(link) = table.peers.get(&to).or_else(|| table.remotes.get(&to)) else {
                tracing::debug!(
                    "unknown-target-peer-id" = format!("{to:x}"),
                    "ignored message send request; unknown remote peer target"
                );
                continue;
            };
            let is_snapshot = matches!(message.body, Body::Snapshot(_));
            let name = message.body.name();
            if is_snapshot || link.send(message, &mut wakers).is_err() {
                tracing::warn!(
                    "message-type" = name,
                    "remote-peer-id" = link.name,
                    "dropped internal Raft message since sending buffer is full"
                );
                let failures = &self.shared.counters.metrics.raft.peers.sent_failures;
                failures.with_label_values(&[&link.name]).inc();
                dropped.push((to, is_snapshot));
            }
        }
        drop(table);
        wakers.into_iter().for_each(Waker::wake);
        for (to, is_snapshot) in dropped {
            self.shared.deliver.unreachable(to);
            if is_snapshot {
                self.shared.deliver.snapshot_sent(to, false);
            }
        }
    }

    /// Sends a message with a snapshot, and the database of the view. Reports the result with
    /// [`Deliver::snapshot_sent`].
    pub fn send_snapshot(&self, message: Message, database: &bolt::View) {
        let link = self.shared.table().peers.get(&message.to).cloned();
        let Some(link) = link else {
            self.shared.deliver.unreachable(message.to);
            self.shared.deliver.snapshot_sent(message.to, false);
            return;
        };
        let (of, shared) = (Arc::clone(&link), Arc::clone(&self.shared));
        let task = snapshot_send::run(of, shared, message, database.copy());
        link.spawn(&self.shared.runtime, "snapshot sender", task);
    }

    /// Sets the other members with their URLs, and the ids of those that were removed. This member
    /// may be among them.
    pub fn set_members(&self, members: &BTreeMap<NodeId, Vec<String>>, removed: &BTreeSet<NodeId>) {
        let (local, mut table) = (self.shared.local.member, self.shared.table_mut());
        table.removed.clone_from(removed);
        let is_kept = |id: &NodeId| members.contains_key(id) && !removed.contains(id);
        let mut gone: Vec<Arc<Link>> =
            table.peers.extract_if(.., |id, _| !is_kept(id)).map(|(_, link)| link).collect();
        let others = members.iter().filter(|(id, _)| **id != local && is_kept(id));
        for (id, urls) in others {
            if let Some(link) = table.peers.get(id) {
                link.urls.update(urls);
                continue;
            }
            gone.extend(table.remotes.remove(id));
            let link = start::member(*id, urls, &self.shared);
            tracing::info!("local-member-id" = format!("{local:x}"), "remote-peer-id" = link.name, "remote-peer-urls" = ?urls, "added remote peer");
            table.peers.insert(*id, link);
        }
        gone.extend(table.remotes.extract_if(.., |id, _| removed.contains(id)).map(|(_, it)| it));
        drop(table);
        for link in gone {
            link.stop();
            tracing::info!(
                "local-member-id" = format!("{local:x}"),
                "removed-remote-peer-id" = link.name,
                "removed remote peer"
            );
        }
    }

    /// Sets the version that other members are told on new connections.
    pub fn announce(&self, version: Version) {
        self.shared.announce(version);
    }

    /// Since when a member has been reached without a failure; `None` if it is not.
    #[must_use]
    pub fn active_since(&self, member: NodeId) -> Option<Instant> {
        self.shared.table().peers.get(&member)?.activity.since()
    }

    /// The number of other members that are reached.
    #[must_use]
    pub fn active_peers(&self) -> usize {
        let table = self.shared.table();
        table.peers.values().filter(|link| link.activity.since().is_some()).count()
    }

    /// The endpoints of the peer port. `host` answers requests besides those of raft.
    pub fn service<H: PeerHost>(&self, host: Arc<H>) -> PeerService<H> {
        PeerService::new(Arc::clone(&self.shared), host)
    }

    /// Ends all streams and the thread.
    pub fn stop(&mut self) {
        let mut table = self.shared.table_mut();
        let mut links: Vec<Arc<Link>> = std::mem::take(&mut table.peers).into_values().collect();
        links.extend(std::mem::take(&mut table.remotes).into_values());
        drop(table);
        for link in links {
            link.stop();
        }
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread for peers panicked");
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.stop();
    }
}

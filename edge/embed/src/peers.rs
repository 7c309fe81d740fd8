//! Connects the member with the transport between members. Neither crate imports the other.
//!
//! Source: etcd v3.7 server/etcdserver/server.go (`Process`, `ReportUnreachable`, `monitorVersions`,
//! `TransferLeadership`), cluster_util.go (`getMembersVersions`).

use cluster::{CLUSTER_VERSION_MIN, Cluster, Version};
use net::Url;
use peer::{Deliver, Dialer, Transport, remote};
use proto::NodeId;
use raft::Message;
use server::{Handle, Peers};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The time between a member's removal and its end. In this time it still acknowledges entries to
/// the others.
const REMOVAL_DELAY: Duration = Duration::from_secs(1);
/// How often a leader asks the other members for their versions.
const VERSIONS_EVERY: Duration = Duration::from_secs(4);
/// The time for the answer.
const VERSION_TIME_MAX: Duration = Duration::from_secs(1);
/// The polling interval for a change of leader or the end of the member.
const POLL: Duration = Duration::from_millis(20);

/// A member that can be asked to end.
pub(crate) trait Member {
    /// Asks it to end.
    fn stop(&self);
}

impl Member for Handle {
    fn stop(&self) {
        Handle::stop(self);
    }
}

/// From the transport to the member. The transport exists before the member runs; until then
/// messages are dropped, as the network may do. A removal is reported only once, so it is kept.
#[derive(Debug)]
pub(crate) struct ToMember<M = Handle> {
    handle: OnceLock<M>,
    /// Whether the member was removed, and has not been told to end.
    is_end_due: Mutex<bool>,
}

impl<M> Default for ToMember<M> {
    fn default() -> ToMember<M> {
        ToMember { handle: OnceLock::new(), is_end_due: Mutex::new(false) }
    }
}

impl<M: Member> ToMember<M> {
    /// Sets the handle of the running member. Ends it if it was removed meanwhile.
    pub(crate) fn set(&self, handle: M) {
        if self.handle.set(handle).is_err() {
            tracing::debug!("a member runs already");
        }
        self.end_if_due(&mut self.end_due());
    }

    /// Ends the member, which was removed from the cluster.
    fn end(&self) {
        let mut is_due = self.end_due();
        *is_due = true;
        self.end_if_due(&mut is_due);
    }

    fn end_due(&self) -> MutexGuard<'_, bool> {
        self.is_end_due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_if_due(&self, is_due: &mut bool) {
        if let Some(handle) = self.handle.get().filter(|_| *is_due) {
            *is_due = false;
            tracing::warn!(
                error = "the member has been permanently removed from the cluster",
                "server error"
            );
            let message = "data-dir used by this member must be removed";
            tracing::warn!("{message}");
            handle.stop();
        }
    }
}

impl Deliver for ToMember {
    fn message(&self, message: Message) {
        if let Some(handle) = self.handle.get() {
            handle.receive(message);
        }
    }

    fn unreachable(&self, peer: NodeId) {
        if let Some(handle) = self.handle.get() {
            handle.report_unreachable(peer);
        }
    }

    fn snapshot_sent(&self, peer: NodeId, ok: bool) {
        if let Some(handle) = self.handle.get() {
            handle.report_snapshot(peer, ok);
        }
    }

    fn removed(&self) {
        self.end();
    }
}

/// From the member to the transport.
#[derive(Debug)]
pub(crate) struct ToPeers {
    pub(crate) transport: Arc<Transport>,
    pub(crate) member: NodeId,
    pub(crate) to_member: Arc<ToMember>,
    /// Whether this member raises the cluster version.
    pub(crate) raises_version: bool,
}

impl Peers for ToPeers {
    fn send(&self, messages: Vec<Message>) {
        self.transport.send(messages);
    }

    fn send_snapshot(&self, message: Message, file: bolt::View) {
        self.transport.send_snapshot(message, &file);
    }

    fn set_members(&self, cluster: &Cluster) {
        let members: BTreeMap<NodeId, Vec<String>> =
            cluster.members().map(|member| (member.id, member.peer_urls.clone())).collect();
        let removed: BTreeSet<NodeId> = cluster.removed().collect();
        self.transport.set_members(&members, &removed);
        if cluster.version().is_some() {
            self.transport.announce(cluster.announced_version(self.raises_version));
        }
        if cluster.is_removed(self.member) {
            let to_member = Arc::clone(&self.to_member);
            let ended = thread::Builder::new().name("removal".to_owned()).spawn(move || {
                thread::sleep(REMOVAL_DELAY);
                to_member.end();
            });
            if ended.is_err() {
                self.to_member.end();
            }
        }
    }

    fn active_since(&self, member: NodeId) -> Option<Instant> {
        self.transport.active_since(member)
    }
}

/// Starts the thread that asks the other members for their versions while this one leads or the cluster
/// has no version yet. It ends with the member.
///
/// # Errors
/// When the operating system gives no thread.
pub(crate) fn watch_versions(handle: Handle, dialer: Dialer) -> io::Result<()> {
    let watch = move || {
        let me = handle.identity().member;
        let mut asked: Option<Instant> = None;
        while !handle.is_stopped() {
            let moment = handle.moment();
            let version = moment.published.cluster.version();
            // Until the cluster has a version, each member must know the versions of the others.
            let is_new = version.is_none_or(|version| version <= CLUSTER_VERSION_MIN);
            let asks = is_new || moment.leadership.leader == me;
            let is_due = asked.is_none_or(|at| at.elapsed() >= VERSIONS_EVERY);
            if asks && is_due {
                handle.report_versions(versions_of_others(&dialer, &moment.published.cluster, me));
                asked = Some(Instant::now());
            } else if !asks {
                asked = None;
            }
            drop(moment);
            thread::sleep(POLL);
        }
    };
    thread::Builder::new().name("versions".to_owned()).spawn(watch).map(drop)
}

/// The versions of the other members that answer. All are asked at the same time.
fn versions_of_others(dialer: &Dialer, cluster: &Cluster, me: NodeId) -> BTreeMap<NodeId, Version> {
    let others: Vec<_> = cluster.members().filter(|member| member.id != me).collect();
    thread::scope(|scope| {
        let asked: Vec<_> = others
            .into_iter()
            .map(|member| (member.id, scope.spawn(|| version_of(dialer, &member.peer_urls))))
            .collect();
        let answers = asked.into_iter().map(|(id, thread)| (id, thread.join()));
        answers.filter_map(|(id, version)| Some((id, version.ok()??))).collect()
    })
}

fn version_of(dialer: &Dialer, peer_urls: &[String]) -> Option<Version> {
    let urls: Vec<Url> = peer_urls.iter().filter_map(|url| Url::parse(url).ok()).collect();
    match remote::blocking(remote::fetch_version(dialer, &urls, VERSION_TIME_MAX)) {
        Ok(versions) => Version::parse(&versions.etcdserver).ok(),
        Err(error) => {
            tracing::debug!(%error, urls = ?peer_urls, "failed to get the version of a member");
            None
        }
    }
}

/// Hands the leadership over before the member stops, so that the others need no election. Gives up
/// after an election timeout, as raft does.
pub(crate) fn hand_over_leadership(handle: &Handle, transport: &Transport, time_max: Duration) {
    let me = handle.identity().member;
    let moment = handle.moment();
    if moment.leadership.leader != me {
        tracing::info!("skipped leadership transfer; local server is not leader");
        return;
    }
    let others = moment.published.cluster.members();
    let voters = others.filter(|member| member.id != me && !member.is_learner);
    let voters: Vec<NodeId> = voters.map(|member| member.id).collect();
    if voters.is_empty() {
        tracing::info!("skipped leadership transfer for single voting member cluster");
        return;
    }
    // The one that has been reached for the longest time is the least likely to be behind.
    let reached = voters.iter().filter_map(|id| Some((transport.active_since(*id)?, *id)));
    let Some((_, to)) = reached.min() else {
        tracing::warn!(error = "etcdserver: unhealthy cluster", "leadership transfer failed");
        return;
    };
    let (from, to_text) = (format!("{me:x}"), format!("{to:x}"));
    tracing::info!(
        "local-member-id" = from,
        "transferee-member-id" = to_text,
        "leadership transfer starting"
    );
    handle.transfer_leadership(to);
    let started = Instant::now();
    while handle.moment().leadership.leader != to {
        if started.elapsed() >= time_max || handle.is_stopped() {
            let error = "etcdserver: request timed out, leader transfer took too long";
            tracing::warn!("local-member-id" = from, error, "leadership transfer failed");
            return;
        }
        thread::sleep(POLL);
    }
    tracing::info!(
        "local-member-id" = from,
        "transferee-member-id" = to_text,
        took = ?started.elapsed(),
        "leadership transfer finished"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Counts the orders to end.
    struct Counting<'a>(&'a AtomicU32);

    impl Member for Counting<'_> {
        fn stop(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_removal_that_is_reported_before_the_member_runs_ends_it() {
        let stops = AtomicU32::new(0);
        let to_member = ToMember::default();
        to_member.end();
        to_member.end();
        to_member.set(Counting(&stops));
        assert_eq!(stops.load(Ordering::Relaxed), 1);
        to_member.end();
        assert_eq!(stops.load(Ordering::Relaxed), 2, "later reports end it at once");
    }
}

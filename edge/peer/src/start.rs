//! Starts the tasks for other members.

use crate::limits::{PIPELINE_CONNECTIONS, REMOTES_MAX};
use crate::link::Link;
use crate::shared::Shared;
use crate::{pipeline, probe, reader};
use proto::NodeId;
use std::sync::Arc;
use wire::{PeerHeaders, StreamKind};

/// Starts the tasks for a member: they open its streams, send messages and probe it.
pub(crate) fn member(id: NodeId, urls: &[String], shared: &Arc<Shared>) -> Arc<Link> {
    let link = remote(id, urls, shared);
    for kind in [StreamKind::Append, StreamKind::Message] {
        let (of, all) = (Arc::clone(&link), Arc::clone(shared));
        link.spawn(&shared.runtime, "stream reader", reader::run(of, all, kind));
    }
    let (of, all) = (Arc::clone(&link), Arc::clone(shared));
    link.spawn(&shared.runtime, "prober", probe::run(of, all));
    link
}

/// Starts the tasks for a sender that is not known as a member yet. It gets only single messages.
fn remote(id: NodeId, urls: &[String], shared: &Arc<Shared>) -> Arc<Link> {
    let link = Link::new(id, urls, shared.counters.clone());
    for _ in 0..PIPELINE_CONNECTIONS {
        let (of, all) = (Arc::clone(&link), Arc::clone(shared));
        link.spawn(&shared.runtime, "pipeline", pipeline::run(of, all));
    }
    link
}

/// Records the URLs of a request's sender, if it is not a known member, so that it can be answered.
pub(crate) fn add_remote(shared: &Arc<Shared>, headers: &PeerHeaders) {
    let Some((from, urls)) = headers.sender() else { return };
    let mut table = shared.table_mut();
    let is_known = table.peers.contains_key(&from)
        || table.remotes.contains_key(&from)
        || table.removed.contains(&from);
    if is_known || from == shared.local.member || from == NodeId::NONE {
        return;
    }
    let name = format!("{from:x}");
    if table.remotes.len() >= REMOTES_MAX {
        tracing::warn!("remote-peer-id" = name, "too many remote peers that are no members");
        return;
    }
    table.remotes.insert(from, remote(from, &urls, shared));
    tracing::info!("remote-peer-id" = name, "remote-peer-urls" = ?urls, "added new remote peer");
}

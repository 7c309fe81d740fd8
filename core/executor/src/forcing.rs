//! `--force-new-cluster`: a member continues alone with its data. Entries that remove all other
//! members are appended to its log, and the whole log is committed.
//!
//! There are two differences to etcd. etcd drops the entries after the commit index of its log; we
//! keep them, because our commit index is written only with the next batch, so these entries may
//! have been acknowledged. And a learner becomes a voter, since a cluster without voters cannot do
//! anything.
//!
//! Source: etcd v3.7 server/etcdserver/bootstrap.go (`bootstrapWALFromSnapshot`), server/storage/util.go
//! (`CreateConfigChangeEnts`).

use cluster::{ChangeContext, Cluster, Member};
use proto::raftpb::ConfChangeType;
use proto::{ConfChange, Entry, EntryKind, HardState, Index, NodeId};
use wal::Wal;

/// Why a member cannot continue alone.
#[derive(Debug)]
pub(crate) enum ForceError {
    /// The log cannot be written.
    Log(wal::Error),
    /// Its members cannot be determined, or this member is not one of them.
    Members(String),
}

impl From<wal::Error> for ForceError {
    fn from(error: wal::Error) -> ForceError {
        ForceError::Log(error)
    }
}

/// The log of the member that continues alone.
#[derive(Debug)]
pub(crate) struct ForcedLog {
    pub(crate) hard_state: HardState,
    pub(crate) entries: Vec<Entry>,
}

/// The members once all entries are applied.
fn members_at_end(
    mut cluster: Cluster,
    entries: &[Entry],
    applied: Index,
) -> Result<Cluster, ForceError> {
    let behind = entries.iter().filter(|entry| entry.index > applied);
    for entry in behind.filter(|entry| entry.kind == EntryKind::ConfChange) {
        let change = ConfChange::decode(entry.data.clone())
            .map_err(|error| ForceError::Members(format!("entry {}: {error}", entry.index)))?;
        // An invalid change is skipped, since it has no effect when it is applied either.
        if let Ok(valid) = cluster.validate(&change) {
            cluster.apply(valid);
        }
    }
    Ok(cluster)
}

/// The changes that make `me` the only member.
fn changes(cluster: &Cluster, me: NodeId) -> Vec<ConfChange> {
    let mut changes = Vec::new();
    let mut add = |member: Member, is_promote| {
        changes.push(ConfChange {
            id: 0,
            kind: ConfChangeType::ConfChangeAddNode,
            node: me,
            context: ChangeContext { member, is_promote }.to_json().into(),
        });
    };
    // This change comes first, since there must always be a voter.
    match cluster.member(me) {
        None => {
            let peer_urls = vec!["http://localhost:2380".to_owned()];
            add(Member { id: me, peer_urls, ..Member::default() }, false);
        }
        Some(member) if member.is_learner => add(member.clone(), true),
        Some(_) => {}
    }
    let others = cluster.members().filter(|member| member.id != me);
    changes.extend(others.map(|member| ConfChange {
        id: 0,
        kind: ConfChangeType::ConfChangeRemoveNode,
        node: member.id,
        context: Default::default(),
    }));
    changes
}

/// Appends the changes and makes them durable.
///
/// # Errors
/// When the disk fails; when this member was removed from the cluster.
pub(crate) fn force(
    wal: &mut Wal,
    log: ForcedLog,
    (cluster, me): (&Cluster, NodeId),
    applied: Index,
) -> Result<ForcedLog, ForceError> {
    let ForcedLog { mut hard_state, mut entries } = log;
    let before = hard_state.commit;
    let last = entries.last().map_or(applied, |entry| entry.index);
    let cluster = members_at_end(cluster.clone(), &entries, applied)?;
    if cluster.is_removed(me) {
        return Err(ForceError::Members(format!(
            "member {me:x} was removed from the cluster; it cannot be made its only member"
        )));
    }
    let changes = (last.0 + 1..).zip(changes(&cluster, me));
    let added: Vec<Entry> = changes
        .map(|(index, change)| Entry {
            term: hard_state.term,
            index: Index(index),
            kind: EntryKind::ConfChange,
            data: change.encode(),
        })
        .collect();
    hard_state.commit = added.last().map_or(last, |entry| entry.index);
    if !added.is_empty() {
        wal.append(&added, hard_state)?;
        wal.sync()?;
    }
    entries.extend(added);
    tracing::info!(
        "cluster-id" = format!("{:x}", wal.metadata().cluster),
        "local-member-id" = format!("{me:x}"),
        "wal-commit-index" = before.0,
        "commit-index" = hard_state.commit.0,
        "forcing restart member"
    );
    Ok(ForcedLog { hard_state, entries })
}

//! Comparing the data of the members: before a member serves, and from time to time while it leads.
//! A member whose data differs gets the CORRUPT alarm, which stops writes in the whole cluster.
//!
//! | check | flag | compares |
//! |---|---|---|
//! | initial | gate `InitialCorruptCheck` | this member's data at its start with that of the others |
//! | periodic | `--corrupt-check-time` | the data of all members at the leader's revision |
//! | compacted | gate `CompactHashCheck`, `--compact-hash-check-time` | the data at the newest compacted revision |
//!
//! `cluster` decides which members differ. Etcd keeps the hashes that each compaction computes;
//! here the hash of a compacted revision is computed when it is requested.
//!
//! Source: etcd v3.7 server/etcdserver/corrupt.go, server.go (`monitorKVHash`, `monitorCompactHash`).

use crate::status::PeerPort;
use cluster::{Agreement, Cluster, Finding, KvHash, Member, OtherHashes};
use executor::Booted;
use net::Url;
use peer::Dialer;
use peer::PeerHost as _;
use peer::remote::{self, RemoteError};
use proto::NodeId;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{AlarmRequest, AlarmType, InternalRaftRequest};
use server::{EncodedRequest, Identity};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use wire::HashKvAnswer;

/// The polling interval for a change of leader, the next check and the end of the member.
const POLL: Duration = Duration::from_millis(50);

/// When the members are compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckTimes {
    /// The time between two comparisons of all data; none for never.
    pub(crate) all: Option<Duration>,
    /// The time between two comparisons of compacted data; none for never.
    pub(crate) compacted: Option<Duration>,
    /// The time limit for a member's answer.
    pub(crate) answer_max: Duration,
}

fn kv_hash(answer: &HashKvAnswer) -> KvHash {
    KvHash {
        hash: answer.hash,
        // Members before 3.6 do not send `hash_revision`.
        revision: if answer.hash_revision == 0 { answer.revision() } else { answer.hash_revision },
        compact_revision: answer.compact_revision,
        current_revision: answer.revision(),
    }
}

/// The hashes of the other members up to a revision. All are asked at the same time.
fn hashes_of_others(
    dialer: &Dialer,
    cluster: &Cluster,
    me: Identity,
    revision: i64,
    answer_max: Duration,
) -> OtherHashes {
    let others: Vec<&Member> = cluster.members().filter(|member| member.id != me.member).collect();
    let ask = |member: &Member| {
        let mut answer = None;
        for url in member.peer_urls.iter().filter_map(|url| Url::parse(url).ok()) {
            let asked = remote::hash_kv(dialer, &url, me.cluster, revision, answer_max);
            match remote::blocking(asked) {
                Ok(hash) => {
                    answer = Some(kv_hash(&hash));
                    break;
                }
                Err(error) => warn_no_hash(me, (member, &url), revision, &error),
            }
        }
        answer
    };
    let ask = &ask;
    thread::scope(|scope| {
        let asked: Vec<_> = others
            .into_iter()
            .map(|member| (member.id, scope.spawn(move || ask(member))))
            .collect();
        let answers = asked.into_iter().map(|(id, thread)| (id, thread.join()));
        answers.filter_map(|(id, answer)| Some((id, answer.ok()??))).collect()
    })
}

fn warn_no_hash(me: Identity, (member, url): (&Member, &Url), requested: i64, error: &RemoteError) {
    let text = error.to_string();
    let message = if text.contains("required revision is a future revision") {
        "cannot fetch hash from slow remote peer"
    } else if text.contains("required revision has been compacted") {
        "cannot fetch hash from remote peer; local member is behind"
    } else if text.contains("cluster ID mismatch") {
        "cluster ID mismatch"
    } else {
        "failed hash kv request"
    };
    tracing::warn!(
        "local-member-id" = format!("{:x}", me.member),
        "requested-revision" = requested,
        "remote-peer-id" = format!("{:x}", member.id),
        "remote-peer-endpoint" = url.as_str(),
        error = text,
        "{message}"
    );
}

/// Compares the data of a member that starts with that of the others that answer.
///
/// # Errors
/// When it differs, or cannot be read.
pub(crate) fn check_at_start(
    booted: &mut Booted,
    dialer: &Dialer,
    answer_max: Duration,
) -> Result<(), String> {
    let me = Identity { cluster: booted.metadata.cluster, member: booted.metadata.node };
    let local = format!("{:x}", me.member);
    tracing::info!("local-member-id" = local, timeout = ?answer_max, "starting initial corruption check");
    let published = booted.state.published();
    let failed = |error: &dyn std::fmt::Display| format!("{local} failed to fetch hash ({error})");
    let work = published.view.hash_kv(0).map_err(|error| failed(&error))?;
    let current_revision = work.current_revision();
    let hash = work.run().map_err(|error| failed(&error))?;
    let own = KvHash {
        hash: hash.hash,
        revision: hash.revision,
        compact_revision: hash.compact_revision,
        current_revision,
    };
    let others = hashes_of_others(dialer, &published.cluster, me, own.revision, answer_max);
    let different = cluster::differ_at_start(&own, &others);
    for (id, other) in others.iter().filter(|(_, other)| other.hash != own.hash) {
        let message = if different.contains(id) {
            "found different hash values from remote peer"
        } else {
            "found different compact revision values from remote peer"
        };
        tracing::warn!(
            "local-member-id" = local,
            "local-member-revision" = own.revision,
            "local-member-compact-revision" = own.compact_revision,
            "local-member-hash" = own.hash,
            "remote-peer-id" = format!("{id:x}"),
            "remote-peer-revision" = other.current_revision,
            "remote-peer-compact-revision" = other.compact_revision,
            "remote-peer-hash" = other.hash,
            "{message}"
        );
    }
    if !different.is_empty() {
        return Err(format!("{local} found data inconsistency with peers"));
    }
    let message = "initial corruption checking passed; no corruption";
    tracing::info!("local-member-id" = local, "{message}");
    Ok(())
}

/// Starts the thread that compares the members while this one leads. It ends with the member.
///
/// # Errors
/// When the operating system gives no thread.
pub(crate) fn watch(port: PeerPort, dialer: Dialer, times: CheckTimes) -> io::Result<()> {
    if times.all.is_none() && times.compacted.is_none() {
        return Ok(());
    }
    let checker = Checker { port, dialer, answer_max: times.answer_max, compacted_checked: 0 };
    thread::Builder::new().name("corruption".to_owned()).spawn(move || checker.run(times)).map(drop)
}

/// Compares the members.
struct Checker {
    port: PeerPort,
    dialer: Dialer,
    answer_max: Duration,
    /// The newest compacted revision at which all members were equal.
    compacted_checked: i64,
}

impl Checker {
    fn run(mut self, times: CheckTimes) {
        let Some(handle) = self.port.status.handle().cloned() else { return };
        let local = format!("{:x}", handle.identity().member);
        if let Some(interval) = times.all {
            tracing::info!("local-member-id" = local, ?interval, "enabled corruption checking");
        }
        let (mut all, mut compacted) = (Instant::now(), Instant::now());
        while !handle.is_stopped() {
            thread::sleep(POLL);
            let is_due = |since: &mut Instant, every: Option<Duration>| {
                let is_due = every.is_some_and(|every| since.elapsed() >= every);
                if is_due {
                    *since = Instant::now();
                }
                is_due && handle.moment().leadership.leader == handle.identity().member
            };
            if is_due(&mut all, times.all)
                && let Err(error) = self.check_all()
            {
                tracing::warn!(error, "failed to check hash KV");
            }
            if is_due(&mut compacted, times.compacted)
                && let Err(error) = self.check_compacted()
            {
                tracing::warn!(error, "failed to check hash KV");
            }
        }
    }

    /// This member's hash up to a revision; 0 for the current one.
    fn own_hash(&self, revision: i64) -> Result<KvHash, String> {
        let hash = remote::blocking(async {
            let refused = |refusal: peer::HostRefusal| RemoteError::Unreachable(refusal.text);
            self.port.hash_kv(revision).await.map_err(refused)
        });
        hash.map(|answer| kv_hash(&answer)).map_err(|error| error.to_string())
    }

    /// This member's identity, and the members of the cluster.
    fn surroundings(&self) -> Result<(Identity, Arc<Cluster>), String> {
        let handle = self.port.status.handle().ok_or("the member does not run")?;
        Ok((handle.identity(), Arc::clone(&handle.moment().published.cluster)))
    }

    /// Waits until this member has applied everything that is acknowledged.
    fn catch_up(&self) -> Result<(), String> {
        let caught_up = remote::blocking(async {
            let read = self
                .port
                .on_worker(|worker| async move { worker.linearizable_view().await.map(drop) });
            read.await.map_err(|error| RemoteError::Unreachable(error.to_string()))
        });
        caught_up.map_err(|error| error.to_string())
    }

    fn check_all(&self) -> Result<(), String> {
        let (me, cluster) = self.surroundings()?;
        let before = self.own_hash(0)?;
        let others = hashes_of_others(&self.dialer, &cluster, me, before.revision, self.answer_max);
        self.catch_up()?;
        let after = self.own_hash(0)?;
        let found = cluster::compare_at_leader(me.member, (&before, &after), &others);
        for (id, finding) in &found {
            let other = others.get(id).copied().unwrap_or_default();
            warn_of((&before, &after), (*id, &other), *finding);
        }
        // One alarm is enough to stop the writes of all members.
        if let Some((id, _)) = found.first() {
            self.raise_alarm(*id);
        }
        let checked = others.len();
        tracing::info!("number-of-peers-checked" = checked, "finished peer corruption check");
        Ok(())
    }

    fn check_compacted(&mut self) -> Result<(), String> {
        let (me, cluster) = self.surroundings()?;
        let local = format!("{:x}", me.member);
        tracing::info!("local-member-id" = local, timeout = ?self.answer_max, "starting compact hash check");
        let handle = self.port.status.handle().ok_or("the member does not run")?;
        let revision = handle.moment().published.view.compact_revision();
        let is_new = revision > self.compacted_checked;
        if is_new {
            let own = self.own_hash(revision)?;
            let others = hashes_of_others(&self.dialer, &cluster, me, revision, self.answer_max);
            self.judge_compacted(me.member, &own, (&others, cluster.members().count() - 1));
        }
        let checked = usize::from(is_new);
        tracing::info!("number-of-hashes-checked" = checked, "finished compaction hash check");
        Ok(())
    }

    fn judge_compacted(
        &mut self,
        me: NodeId,
        own: &KvHash,
        (answered, others): (&OtherHashes, usize),
    ) {
        let (leader, revision) = (format!("{me:x}"), own.revision);
        match cluster::compare_compacted(me, own, answered, others) {
            Agreement::Equal(checked) if checked == others => {
                self.compacted_checked = revision;
                tracing::info!(
                    "number-of-peers-checked" = checked,
                    revision,
                    "compactRevision" = own.compact_revision,
                    "successfully checked hash on whole cluster"
                );
            }
            Agreement::Equal(checked) => tracing::warn!(
                "number-of-peers-checked" = checked,
                "number-of-peers" = others,
                revision,
                "compactRevision" = own.compact_revision,
                "skipped revision in compaction hash check; was not able to check all peers"
            ),
            Agreement::Against(different) => {
                for id in different {
                    tracing::error!(
                        "leader-id" = leader,
                        "leader-revision" = revision,
                        "leader-compact-revision" = own.compact_revision,
                        "leader-hash" = own.hash,
                        "peer-hash" = answered.get(&id).map_or(own.hash, |other| other.hash),
                        "peer-ids" = format!("{id:x}"),
                        "quorum-exist" = true,
                        "Detected compaction hash mismatch"
                    );
                    self.raise_alarm(id);
                }
            }
            Agreement::None => {
                let message = "Detected compaction hash mismatch but cannot identify the corrupted \
                               members, so intentionally set the memberID as 0";
                tracing::error!(
                    "leader-id" = leader,
                    "leader-revision" = revision,
                    "leader-compact-revision" = own.compact_revision,
                    "leader-hash" = own.hash,
                    "{message}"
                );
                self.raise_alarm(NodeId::NONE);
            }
        }
    }

    fn raise_alarm(&self, member: NodeId) {
        let alarm = AlarmRequest {
            action: AlarmAction::Activate.into(),
            member_id: member.0,
            alarm: AlarmType::Corrupt.into(),
        };
        let request = InternalRaftRequest { alarm: Some(alarm), ..InternalRaftRequest::default() };
        let request = EncodedRequest::new(&request);
        let raised = remote::blocking(async {
            let proposed = self.port.on_worker(move |worker| async move {
                worker.propose(auth::Caller::default(), request).await.map(drop)
            });
            proposed.await.map_err(|error| RemoteError::Unreachable(error.to_string()))
        });
        if let Err(error) = raised {
            tracing::error!("member-id" = format!("{member:x}"), %error, "failed to raise the CORRUPT alarm");
        }
    }
}

fn warn_of((before, after): (&KvHash, &KvHash), (id, other): (NodeId, &KvHash), finding: Finding) {
    let follower = format!("{id:x}");
    match finding {
        Finding::OwnHashChanged => tracing::warn!(
            "revision-1" = before.revision,
            "compact-revision-1" = before.compact_revision,
            "hash-1" = before.hash,
            "revision-2" = after.revision,
            "compact-revision-2" = after.compact_revision,
            "hash-2" = after.hash,
            "found hash mismatch"
        ),
        Finding::AheadOfLeader => tracing::warn!(
            "leader-revision" = after.current_revision,
            "follower-revision" = other.current_revision,
            "follower-peer-id" = follower,
            "revision from follower must be less than or equal to leader's"
        ),
        Finding::CompactedBeyondLeader => tracing::warn!(
            "leader-compact-revision" = after.compact_revision,
            "follower-compact-revision" = other.compact_revision,
            "follower-peer-id" = follower,
            "compact revision from follower must be less than or equal to leader's"
        ),
        Finding::OtherHash => tracing::warn!(
            "leader-compact-revision" = after.compact_revision,
            "leader-hash" = before.hash,
            "follower-compact-revision" = other.compact_revision,
            "follower-hash" = other.hash,
            "follower-peer-id" = follower,
            "same compact revision then hashes must match"
        ),
    }
}

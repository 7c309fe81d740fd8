//! Compares the data of the members, by the hashes of their keys: once when a member starts
//! (`InitialCorruptCheck`), and every so often at the leader (`--corrupt-check-time`, and
//! `CompactHashCheck`). A member whose data differs does not start, or gets the alarm CORRUPT.
//!
//! Not here: what the hashes say (`cluster::comparison`).
//!
//! Source: etcd v3.7 server/etcdserver/corrupt.go.

use cluster::{Finding, KvHash, Majority, Member, OtherHashes};
use net::Url;
use peer::remote;
use proto::NodeId;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{AlarmRequest, AlarmType, InternalRaftRequest};
use server::{Error, Handle, Worker};
use std::thread;
use std::time::{Duration, Instant};

/// The polling interval for the next comparison or the end of the member.
const POLL: Duration = Duration::from_millis(100);

/// How often a leader compares; `None` for never.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Intervals {
    /// Hashes of the current keys.
    pub(crate) current: Option<Duration>,
    /// Hashes at the compacted revision.
    pub(crate) compacted: Option<Duration>,
}

/// The comparisons of one member.
struct Checker {
    handle: Handle,
    answer_time_max: Duration,
    /// The compacted revision at which all members were equal.
    checked: i64,
}

/// Compares the data of this member with that of the others, before it serves clients. Members that
/// do not answer, or are at other revisions, are not compared.
///
/// # Errors
/// When they differ.
pub(crate) fn check_at_start(handle: &Handle, answer_time_max: Duration) -> Result<(), String> {
    let checker = Checker { handle: handle.clone(), answer_time_max, checked: 0 };
    let me = format!("{:x}", handle.identity().member);
    tracing::info!(
        "local-member-id" = me,
        timeout = ?answer_time_max,
        "starting initial corruption check"
    );
    let own = checker.own(0).map_err(|why| format!("{me} failed to fetch hash ({why})"))?;
    let others = checker.others(own.revision);
    let differ = cluster::differ_at_start(&own, &others);
    for id in &differ {
        tracing::warn!(
            "local-member-id" = me,
            "local-member-revision" = own.revision,
            "local-member-compact-revision" = own.compact_revision,
            "local-member-hash" = own.hash,
            "remote-peer-id" = format!("{id:x}"),
            "remote-peer-hash" = others.get(id).map(|other| other.hash),
            "found different hash values from remote peer"
        );
    }
    if !differ.is_empty() {
        return Err(format!("{me} found data inconsistency with peers"));
    }
    let message = "initial corruption checking passed; no corruption";
    tracing::info!("local-member-id" = me, "{message}");
    Ok(())
}

/// Starts the thread that compares while this member leads. It ends with the member.
///
/// # Errors
/// When the operating system gives no thread.
pub(crate) fn watch(
    handle: Handle,
    intervals: Intervals,
    answer_time_max: Duration,
) -> std::io::Result<()> {
    if intervals.current.is_none() && intervals.compacted.is_none() {
        return Ok(());
    }
    let me = format!("{:x}", handle.identity().member);
    if let Some(interval) = intervals.current {
        tracing::info!("local-member-id" = me, ?interval, "enabled corruption checking");
    }
    let mut checker = Checker { handle, answer_time_max, checked: 0 };
    let run = move || {
        let begun = Instant::now();
        let due = |interval: Option<Duration>| interval.map(|interval| begun + interval);
        let (mut current, mut compacted) = (due(intervals.current), due(intervals.compacted));
        while !checker.handle.is_stopped() {
            if is_due(&mut current, intervals.current)
                && checker.leads()
                && let Err(error) = checker.compare_current()
            {
                tracing::warn!(error, "failed to check hash KV");
            }
            if is_due(&mut compacted, intervals.compacted)
                && checker.leads()
                && let Err(error) = checker.compare_compacted()
            {
                tracing::warn!(error, "failed to check hash KV");
            }
            thread::sleep(POLL);
        }
    };
    thread::Builder::new().name("comparison".to_owned()).spawn(run).map(drop)
}

/// Whether the time has come; then the next one is an interval later.
fn is_due(next: &mut Option<Instant>, interval: Option<Duration>) -> bool {
    let is_due = next.is_some_and(|next| Instant::now() >= next);
    if is_due {
        *next = interval.map(|interval| Instant::now() + interval);
    }
    is_due
}

impl Checker {
    fn leads(&self) -> bool {
        self.handle.moment().leadership.leader == self.handle.identity().member
    }

    /// This member's hash up to a revision; 0 for the current one.
    fn own(&self, revision: i64) -> Result<KvHash, String> {
        let view = self.handle.moment().published.view.clone();
        let work = view.hash_kv(revision).map_err(|error| format!("{error:?}"))?;
        let current_revision = work.current_revision();
        let hash = work.run().map_err(|error| error.to_string())?;
        Ok(KvHash {
            hash: hash.hash,
            revision: hash.revision,
            compact_revision: hash.compact_revision,
            current_revision,
        })
    }

    /// The hashes of the others that answer. All are asked at the same time.
    fn others(&self, revision: i64) -> OtherHashes {
        let moment = self.handle.moment();
        let me = self.handle.identity();
        let ask = |member: &Member| {
            let urls = member.peer_urls.iter().filter_map(|url| Url::parse(url).ok());
            for url in urls {
                let asked = remote::hash_kv(&url, me.cluster, revision, self.answer_time_max);
                match remote::blocking(asked) {
                    Ok(answer) => {
                        return Some(KvHash {
                            hash: answer.hash,
                            revision,
                            compact_revision: answer.compact_revision,
                            current_revision: answer.revision(),
                        });
                    }
                    Err(error) => tracing::warn!(
                        "local-member-id" = format!("{:x}", me.member),
                        "requested-revision" = revision,
                        "remote-peer-endpoint" = url.as_str(),
                        %error,
                        "failed hash kv request"
                    ),
                }
            }
            None
        };
        thread::scope(|scope| {
            let members = moment.published.cluster.members();
            let others = members.filter(|member| member.id != me.member);
            let asked: Vec<_> = others
                .map(|member| (member.id, scope.spawn(move || ask(member))))
                .collect();
            let answers = asked.into_iter().map(|(id, thread)| (id, thread.join()));
            answers.filter_map(|(id, hash)| Some((id, hash.ok()??))).collect()
        })
    }

    fn compare_current(&self) -> Result<(), String> {
        let before = self.own(0)?;
        let others = self.others(before.revision);
        self.on_worker(|worker| async move { worker.linearizable_view().await.map(drop) })?;
        let after = self.own(0)?;
        let me = self.handle.identity().member;
        let found = cluster::compare_at_leader(me, (&before, &after), &others);
        for (id, finding) in &found {
            tracing::warn!(
                "leader-revision" = after.current_revision,
                "leader-compact-revision" = after.compact_revision,
                "leader-hash" = before.hash,
                "peer-id" = format!("{id:x}"),
                "peer-hash" = others.get(id).map(|other| other.hash),
                "{}",
                match finding {
                    Finding::OwnHashChanged => "found hash mismatch",
                    Finding::AheadOfLeader =>
                        "revision from follower must be less than or equal to leader's",
                    Finding::CompactedBeyondLeader =>
                        "compact revision from follower must be less than or equal to leader's",
                    Finding::OtherHash => "same compact revision then hashes must match",
                }
            );
        }
        // etcd raises one alarm for each comparison.
        if let Some((id, _)) = found.first() {
            self.raise(*id);
        }
        let checked = others.len();
        tracing::info!("number-of-peers-checked" = checked, "finished peer corruption check");
        Ok(())
    }

    fn compare_compacted(&mut self) -> Result<(), String> {
        let moment = self.handle.moment();
        let revision = moment.published.view.compact_revision();
        if revision <= self.checked {
            return Ok(());
        }
        let me = self.handle.identity().member;
        let own = self.own(revision)?;
        let answered = self.others(revision);
        let others = moment.published.cluster.members().count().saturating_sub(1);
        let fields = (own.revision, own.compact_revision, own.hash);
        match cluster::compare_compacted(me, &own, &answered, others) {
            Majority::Equal(compared) if compared == others => {
                self.checked = revision;
                let message = "successfully checked hash on whole cluster";
                tracing::info!("number-of-peers-checked" = compared, revision, "{message}");
            }
            Majority::Equal(compared) => tracing::warn!(
                "number-of-peers-checked" = compared,
                "number-of-peers" = others,
                revision,
                "skipped revision in compaction hash check; was not able to check all peers"
            ),
            Majority::Against(minority) => {
                tracing::error!(leader = ?fields, ?minority, "Detected compaction hash mismatch");
                minority.into_iter().for_each(|id| self.raise(id));
            }
            Majority::None => {
                tracing::error!(
                    leader = ?fields,
                    "Detected compaction hash mismatch but cannot identify the corrupted members, so intentionally set the memberID as 0"
                );
                self.raise(NodeId::NONE);
            }
        }
        Ok(())
    }

    /// Raises the alarm CORRUPT for a member.
    fn raise(&self, member: NodeId) {
        let alarm = AlarmRequest {
            action: AlarmAction::Activate.into(),
            member_id: member.0,
            alarm: AlarmType::Corrupt.into(),
        };
        let request = InternalRaftRequest { alarm: Some(alarm), ..InternalRaftRequest::default() };
        let raised = self.on_worker(|worker| async move { worker.propose(request).await.map(drop) });
        if let Err(error) = raised {
            tracing::warn!(error, "the alarm CORRUPT could not be raised");
        }
    }

    fn on_worker<W, F>(&self, work: W) -> Result<(), String>
    where
        W: FnOnce(Worker) -> F + Send + 'static,
        F: Future<Output = Result<(), Error>> + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let done = runtime.block_on(self.handle.on_worker(work)).and_then(|done| done);
        done.map_err(|error| error.to_string())
    }
}

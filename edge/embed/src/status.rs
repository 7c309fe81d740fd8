//! The state of a running member, as the HTTP endpoints report it.

use crate::certificates::Certificates;
use api::Authenticator;
use bytes::Bytes;
use cluster::Version;
use executor::Moment;
use http::{Method, Response};
use net::endpoints::{self, Alarm, StatusSource};
use proto::NodeId;
use proto::etcdserverpb::AlarmType;
use server::Handle;
use server::metrics::Metrics;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

/// The interval at which a waiting read checks whether the member runs.
const POLL: Duration = Duration::from_millis(10);

/// What Go's `memstats` says that is true here: there is no garbage collection. The other fields
/// describe Go's heap.
const MEMORY: &str =
    r#"{"NumGC":0,"NumForcedGC":0,"GCCPUFraction":0,"EnableGC":false,"DebugGC":false}"#;

/// The member behind the endpoints. The endpoints are served before it runs.
#[derive(Debug)]
pub(crate) struct MemberStatus {
    handle: OnceLock<Handle>,
    /// The version that other members are told before the cluster's version is known, and whether
    /// this member raises the cluster's version.
    announcement: OnceLock<(Version, bool)>,
    metrics: Arc<Metrics>,
    read_time_max: Duration,
    certificates: Certificates,
}

impl MemberStatus {
    pub(crate) fn new(
        metrics: Arc<Metrics>,
        read_time_max: Duration,
        certificates: Certificates,
    ) -> Self {
        let (handle, announcement) = (OnceLock::new(), OnceLock::new());
        Self { handle, announcement, metrics, read_time_max, certificates }
    }

    /// Sets the handle of the running member.
    pub(crate) fn set(&self, handle: Handle) {
        if self.handle.set(handle).is_err() {
            tracing::debug!("a member runs already");
        }
    }

    /// Sets what other members are told.
    pub(crate) fn set_announcement(&self, at_first: Version, raises: bool) {
        if self.announcement.set((at_first, raises)).is_err() {
            tracing::debug!("a member was opened already");
        }
    }

    /// The running member, once it is set.
    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.handle.get()
    }

    fn moment(&self) -> Option<Arc<Moment>> {
        self.handle.get().map(Handle::moment)
    }

    /// Updates the gauges that are derived from the published state.
    fn refresh(&self) {
        let (Some(handle), Some(moment)) = (self.handle.get(), self.moment()) else { return };
        let (m, published) = (&self.metrics, &moment.published);
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let me = handle.identity().member;
        m.raft.consensus.has_leader.set(i64::from(moment.leadership.leader != NodeId::NONE));
        m.raft.consensus.is_leader.set(i64::from(moment.leadership.leader == me));
        m.raft.consensus.is_learner.set(i64::from(self.is_learner()));
        m.raft.consensus.applied.set(signed(published.applied.index.0));
        m.raft.consensus.committed.set(signed(handle.commit().0));
        m.store.mvcc.current_revision.set(published.view.revision());
        m.store.mvcc.compact_revision.set(published.view.compact_revision().max(0));
        m.raft.consensus.pending.set(signed(handle.waiting() as u64));
        m.memory.overlay.set(signed(moment.overlay_bytes as u64));
        m.memory.raft_log.set(signed(handle.log_bytes() as u64));
        let totals = &published.totals;
        Metrics::raise(&m.store.mvcc.ranges, totals.ops.ranges + handle.ranges());
        Metrics::raise(&m.store.mvcc.puts, totals.ops.puts);
        Metrics::raise(&m.store.mvcc.deletes, totals.ops.deletes);
        Metrics::raise(&m.store.mvcc.txns, totals.txns);
        m.store.mvcc.put_bytes.set(signed(totals.ops.put_bytes));
        m.store.mvcc.keys.set(signed(published.view.live_keys()));
        Metrics::raise(&m.raft.apply.lease_expired, totals.expired_leases);
        let (received, sent) = handle.message_bytes();
        Metrics::raise(&m.network.client_received, received);
        Metrics::raise(&m.network.client_sent, sent);
        Metrics::raise(&m.network.task_panics, net::tasks::panics());
        Metrics::raise(&m.network.tls_rejected, net::tls::rejected_connections());
        Metrics::raise(&m.network.tls_failed_reloads, net::tls::failed_reloads());
        Metrics::raise(&m.security.jwt_failed_reloads, api::failed_jwt_reloads());
        for (port, seconds) in self.certificates.seconds_left(SystemTime::now()) {
            m.security.certificate_expiry.with_label_values(&[port]).set(seconds);
        }
        let watches = handle.watch_stats();
        m.store.watch.watchers.set(signed(watches.watchers as u64));
        m.store.watch.slow_watchers.set(signed(watches.slow_watchers as u64));
        m.store.watch.pending_events.set(signed(watches.pending_events));
        Metrics::raise(&m.store.watch.events, watches.sent_events);
        Metrics::raise(&m.store.watch.refused, watches.refused_watchers);
        if let Some(file) = published.view.read().file() {
            m.disk.backend.size.set(signed(file.size()));
            m.disk.backend.size_in_use.set(signed(file.size_in_use()));
            m.memory.page_cache.set(signed(file.cache_bytes() as u64));
        }
        m.identity.cluster_version.reset();
        if let Some(version) = published.cluster.version() {
            let version = format!("{}.{}", version.major, version.minor);
            m.identity.cluster_version.with_label_values(&[&version]).set(1);
        }
        m.identity.alarms.reset();
        for alarm in published.alarms.of_type(0) {
            let kind = AlarmType::try_from(alarm.alarm).unwrap_or(AlarmType::None);
            let id = format!("{:x}", alarm.member_id);
            m.identity.alarms.with_label_values(&[id.as_str(), kind.as_str_name()]).set(1);
        }
        let me = format!("{me:x}");
        m.identity.server_id.with_label_values(&[&me]).set(1);
        for member in published.cluster.members() {
            let remote = format!("{:x}", member.id);
            m.network.known_peers.with_label_values(&[me.as_str(), remote.as_str()]).set(1);
        }
    }
}

impl StatusSource for MemberStatus {
    fn alarms(&self) -> Vec<Alarm> {
        let Some(moment) = self.moment() else { return Vec::new() };
        let alarms = moment.published.alarms.of_type(0);
        let kind = |alarm: i32| match AlarmType::try_from(alarm) {
            Ok(AlarmType::Nospace) => Alarm::NoSpace,
            Ok(AlarmType::Corrupt) => Alarm::Corrupt,
            Ok(AlarmType::None) | Err(_) => Alarm::Unknown,
        };
        alarms.iter().map(|alarm| kind(alarm.alarm)).collect()
    }

    fn has_leader(&self) -> bool {
        self.moment().is_some_and(|moment| moment.leadership.leader != NodeId::NONE)
    }

    fn is_learner(&self) -> bool {
        let Some(handle) = self.handle.get() else { return false };
        let member = handle.identity().member;
        handle.moment().published.cluster.member(member).is_some_and(|m| m.is_learner)
    }

    fn cluster_version(&self) -> Option<String> {
        self.moment()?.published.cluster.version().map(|version| version.to_string())
    }

    fn announced_version(&self) -> String {
        let Some((at_first, raises)) = self.announcement.get() else {
            return cluster::SERVER_VERSION.to_owned();
        };
        let moment = self.moment().filter(|moment| moment.published.cluster.version().is_some());
        let now = moment.map(|moment| moment.published.cluster.announced_version(*raises));
        now.unwrap_or(*at_first).to_string()
    }

    fn storage_version(&self) -> Option<String> {
        let version = storage_version(self.moment()?.published.view.read().file()?);
        (!version.is_empty()).then_some(version)
    }

    async fn read(&self, linearizable: bool) -> Result<(), String> {
        let deadline = Instant::now() + self.read_time_max;
        let handle = loop {
            match self.handle.get() {
                Some(handle) => break handle,
                None if Instant::now() >= deadline => {
                    return Err(rpc::Error::Timeout.text().to_owned());
                }
                None => tokio::time::sleep(POLL).await,
            }
        };
        if !linearizable {
            return Ok(());
        }
        let read = handle.on_worker(|worker| async move { worker.linearizable_view().await });
        let read = read.await.and_then(|view| view);
        read.map(drop).map_err(|error| api::status_of(error).message.into_owned())
    }

    fn metrics(&self) -> Vec<u8> {
        self.refresh();
        self.metrics.text()
    }

    async fn variables(&self) -> Vec<(&'static str, String)> {
        let arguments: Vec<String> =
            std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
        let files = crate::system::fd_limit().unwrap_or(0);
        let raft = match self.handle.get() {
            Some(handle) => {
                let status = handle.on_worker(|worker| async move { worker.raft_status().await });
                status.await.and_then(|status| status).ok()
            }
            None => None,
        };
        vec![
            ("cmdline", serde_json::json!(arguments).to_string()),
            ("file_descriptor_limit", files.to_string()),
            ("memstats", MEMORY.to_owned()),
            ("raft.status", raft.map_or_else(|| "null".to_owned(), |raft| raft.to_json())),
        ]
    }

    fn count_health(&self, healthy: bool) {
        let health = &self.metrics.health;
        if healthy { health.successes.inc() } else { health.failures.inc() }
    }

    fn count_check(&self, kind: &'static str, name: &'static str, passed: bool) {
        let health = &self.metrics.health;
        health.check.with_label_values(&[kind, name]).set(i64::from(passed));
        let status = if passed { "success" } else { "error" };
        health.checks.with_label_values(&[kind, name, status]).inc();
    }
}

/// The recorded storage version; empty before 3.6.
pub(crate) fn storage_version(file: &bolt::View) -> String {
    match file.get(b"meta", b"storageVersion") {
        Ok(Some(version)) => String::from_utf8_lossy(&version).into_owned(),
        Ok(None) => String::new(),
        Err(error) => {
            tracing::error!(%error, "cannot read the storage version");
            String::new()
        }
    }
}

/// The peers' port: versions and members.
#[derive(Clone, Debug)]
pub(crate) struct PeerPort {
    pub(crate) status: Arc<MemberStatus>,
    /// Verifies the tokens of clients whose requests other members forward.
    pub(crate) authenticator: Arc<Authenticator>,
}

impl net::plain::Handler for PeerPort {
    async fn answer(&self, method: &Method, path: &str, _: &str) -> Response<Bytes> {
        let members = || {
            let moment = self.status.moment();
            moment.map_or_else(
                || "[]".to_owned(),
                |moment| cluster::members_json(moment.published.cluster.members()),
            )
        };
        endpoints::peer(&*self.status, method, path, members)
    }
}

/// The ports of `--listen-metrics-urls`.
#[derive(Debug)]
pub(crate) struct MetricsPort(pub(crate) Arc<MemberStatus>);

impl net::plain::Handler for MetricsPort {
    async fn answer(&self, method: &Method, path: &str, query: &str) -> Response<Bytes> {
        // etcd has these at the client port only.
        if ["/version", endpoints::VARIABLES].contains(&path) {
            return endpoints::not_found();
        }
        let answer = endpoints::client(&*self.0, method, path, query).await;
        answer.unwrap_or_else(endpoints::not_found)
    }
}

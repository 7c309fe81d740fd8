//! A state on a simulated disk, for tests that look at single effects.

use backend::{Backend, Batch};
use bytes::Bytes;
use prost::Message as _;
use proto::etcdserverpb::{InternalRaftRequest, LeaseGrantRequest, RequestHeader};
use proto::{Entry, EntryKind, Index, NodeId, Term};
use state::{Effect, Input, Reply, Settings, State};
use std::path::Path;
use std::sync::Arc;

/// The settings of a test: no quota, small compaction slices, leases of at least 2 s.
pub(crate) fn settings() -> Settings {
    Settings {
        member: NodeId(7),
        quota: state::quota::Quota::from_flag(-1),
        snapshot_count: 10_000,
        compaction_slice: 2,
        lease_ttl_s_min: 2,
        bcrypt_cost: 4,
        lease_extend_ms: 1_000,
        lease_checkpoints: state::LeaseCheckpoints::default(),
        learners_max: 1,
        raise_cluster_version: false,
        downgrade_check_ms: 5_000,
        attributes: cluster::Attributes { name: "n".into(), client_urls: Vec::new() },
    }
}

/// A state and the disk of its database. Entries get ascending indexes, requests the id of their
/// entry's index.
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) index: u64,
    pub(crate) now_ms: u64,
    backend: Backend,
    batches: Vec<Arc<Batch>>,
    log: Vec<Entry>,
}

impl World {
    pub(crate) fn new(settings: Settings) -> World {
        let disk = vfs::SimDisk::new(1);
        let cache = Arc::new(bolt::PageCache::new(64 * 1024));
        let options = bolt::Options { new_page_size: 4096, cache, read_only: false };
        let backend = Backend::open(&disk, Path::new("db"), options).unwrap();
        let log = state::LogTail { v2: None, snapshot_index: Index(0), entries: Vec::new() };
        let state = State::open(settings, backend.view(), &log).unwrap();
        World { state, index: 0, now_ms: 0, backend, batches: Vec::new(), log: Vec::new() }
    }

    /// A state whose database contains `batch`, and whose log contains `entries`.
    pub(crate) fn restarted(settings: Settings, batch: Batch, entries: Vec<Entry>) -> World {
        let disk = vfs::SimDisk::new(1);
        let cache = Arc::new(bolt::PageCache::new(64 * 1024));
        let options = bolt::Options { new_page_size: 4096, cache, read_only: false };
        let mut backend = Backend::open(&disk, Path::new("db"), options).unwrap();
        backend.commit(&[Arc::new(batch)]).unwrap();
        let index = backend.applied().index.0;
        let log = state::LogTail { v2: None, snapshot_index: Index(0), entries };
        let state = State::open(settings, backend.view(), &log).unwrap();
        World { state, index, now_ms: 0, backend, batches: Vec::new(), log: Vec::new() }
    }

    /// Restarts the member after everything was written.
    pub(crate) fn restart(&mut self, settings: Settings) {
        self.backend.commit(&std::mem::take(&mut self.batches)).unwrap();
        let entries = self.log.clone();
        let log = state::LogTail { v2: None, snapshot_index: Index(0), entries };
        self.state = State::open(settings, self.backend.view(), &log).unwrap();
    }

    pub(crate) fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.state.step(self.now_ms, input, &mut effects).unwrap();
        for effect in &effects {
            if let Effect::Commit(batch) = effect {
                self.batches.push(Arc::clone(batch));
            }
        }
        effects
    }

    /// Applies an entry without data, as a new leader appends it.
    pub(crate) fn apply_empty(&mut self, term: u64) -> Vec<Effect> {
        self.apply_data(term, Bytes::new())
    }

    pub(crate) fn apply(&mut self, term: u64, mut request: InternalRaftRequest) -> Vec<Effect> {
        request.header = Some(RequestHeader { id: self.index + 1, ..RequestHeader::default() });
        self.apply_data(term, request.encode_to_vec().into())
    }

    pub(crate) fn apply_data(&mut self, term: u64, data: Bytes) -> Vec<Effect> {
        self.index += 1;
        let (term, index) = (Term(term), Index(self.index));
        let entry = Entry { term, index, kind: EntryKind::Normal, data };
        self.log.push(entry.clone());
        self.step(Input::Apply(vec![entry]))
    }
}

pub(crate) fn grant(id: i64, ttl: i64) -> InternalRaftRequest {
    let grant = Some(LeaseGrantRequest { id, ttl });
    InternalRaftRequest { lease_grant: grant, ..InternalRaftRequest::default() }
}

/// The replies among some effects.
pub(crate) fn replies(effects: Vec<Effect>) -> Vec<(u64, Reply)> {
    let reply = |effect| match effect {
        Effect::Reply(id, reply) => Some((id, reply)),
        Effect::Commit(_)
        | Effect::Publish(_)
        | Effect::Tokens(_)
        | Effect::Events(_)
        | Effect::Answer(..)
        | Effect::Propose(..)
        | Effect::ConfChanged(_)
        | Effect::Applied(_)
        | Effect::Snapshot(_) => None,
    };
    effects.into_iter().filter_map(reply).collect()
}

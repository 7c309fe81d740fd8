//! The order in which the machines send their messages, and when a moment is linearizable: a member
//! on a simulated disk whose machines are called one after the other.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use backend::ReadView;
use cluster::{Cluster, MembershipChange};
use executor::boot::{Booted, Files};
use executor::{
    ApplyInput, AutoCompaction, BackendInput, BootError, BootOptions, ClientMessage,
    ConsensusInput, Envelope, Founding, IdLane, LogInput, MachineOptions, Machines, Moment,
    RequestIds,
};
use member::{Leadership, Proposal};
use prost::Message as _;
use proto::answer::Answer;
use proto::etcdserverpb::{InternalRaftRequest, PutRequest, RequestHeader};
use proto::{ConfState, HardState, Index, NodeId};
use state::{Published, Snapshot};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use vfs::{SimDisk, Vfs};

/// A member whose messages are delivered in order and checked.
struct World {
    machines: Machines,
    queue: VecDeque<Envelope>,
    ids: IdLane,
    published: Arc<Moment>,
    /// The revision of the last put that was answered.
    answered: i64,
    events: usize,
}

fn boot(vfs: &Arc<dyn Vfs>) -> Result<Booted, BootError> {
    let options = BootOptions::simulated(1);
    let files = Files::open(vfs, &options)?;
    let (keys, log) = (files.read_keys(), files.open_log()?);
    files.start(keys, log)
}

impl World {
    fn boot(disk: &SimDisk, start: u64) -> World {
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        let booted = boot(&vfs).unwrap();
        let ids = RequestIds::new(booted.metadata.node, start << 20, 3);
        let options = MachineOptions {
            auto_compaction: AutoCompaction::Off,
            batch_interval: Duration::from_secs(1),
            batch_limit: usize::MAX,
            catch_up_entries: 100,
            snapshots_max: 2,
            segments_max: 2,
            ids,
            own_lane: 1,
            contexts_lane: 2,
        };
        let machines = Machines::new(vfs, booted, &options);
        let published = Arc::clone(machines.applier.moment());
        let (queue, ids) = (VecDeque::new(), ids.lane(0));
        World { machines, queue, ids, published, answered: 0, events: 0 }
    }

    fn put(&mut self, value: &'static str) {
        let id = self.ids.next_id();
        let put = PutRequest { key: "k".into(), value: value.into(), ..PutRequest::default() };
        let header = Some(RequestHeader { id, ..RequestHeader::default() });
        let request = InternalRaftRequest { header, put: Some(put), ..Default::default() };
        let data = request.encode_to_vec().into();
        self.send(Envelope::Consensus(ConsensusInput::Propose(Proposal::request(id, data))));
    }

    /// Ticks until the member leads. The first tick applies the entries that are already committed.
    fn lead(&mut self) {
        for _ in 0..3 {
            self.send(Envelope::Consensus(ConsensusInput::Tick));
        }
        assert!(self.published.is_linearizable());
    }

    /// Delivers a message and all that follow from it. The database commits nothing.
    fn send(&mut self, message: Envelope) {
        self.queue.push_back(message);
        while let Some(message) = self.queue.pop_front() {
            self.deliver(message);
        }
    }

    fn deliver(&mut self, message: Envelope) {
        let now = Duration::ZERO;
        let mut out = Vec::new();
        match message {
            Envelope::Consensus(input) => {
                if let ConsensusInput::Applied(index) = &input {
                    let shown = self.published.published.applied.index;
                    assert!(shown >= *index, "{index} is applied, but readers see {shown}");
                }
                self.machines.consensus.take(input, &mut out);
                self.machines.consensus.end_round(&mut out);
            }
            Envelope::Apply(input) => {
                self.machines.applier.take(now, input, &mut out).unwrap();
                while self.machines.applier.apply_next(now, &mut out).unwrap().is_some() {}
            }
            Envelope::Log(input) => {
                self.machines.log_writer.take(input);
                while self.machines.log_writer.step(&mut out).unwrap().is_some() {}
            }
            Envelope::Backend(input) => self.machines.backend_writer.take(now, input),
            Envelope::Client(message) => self.observe(message),
            Envelope::Peers(_) | Envelope::PeerSnapshot(..) => {
                panic!("a sole member sends nothing: {message:?}")
            }
        }
        self.queue.extend(out);
    }

    fn observe(&mut self, message: ClientMessage) {
        let shown = self.published.published.view.revision();
        match message {
            ClientMessage::Publish(moment) => self.published = moment,
            ClientMessage::Events(batches) => {
                for batch in batches {
                    let revision = batch.revision;
                    assert!(revision <= shown, "event of {revision}, but readers see {shown}");
                    self.events += 1;
                }
            }
            ClientMessage::Answer(_, Ok(Answer::Put(put))) => {
                let revision = put.revision;
                assert!(revision <= shown, "answer of {revision}, but readers see {shown}");
                self.answered = revision;
            }
            ClientMessage::Answer(..)
            | ClientMessage::Reply(..)
            | ClientMessage::File(..)
            | ClientMessage::EventsLost
            | ClientMessage::Tokens(_)
            | ClientMessage::ReadReady(_)
            | ClientMessage::ReadRefused(_)
            | ClientMessage::Status(..) => {}
        }
    }
}

#[test]
fn answers_events_and_consensus_follow_the_moment_that_contains_them() {
    let mut world = World::boot(&SimDisk::new(1), 1);
    world.lead();
    for value in ["a", "b", "c"] {
        world.put(value);
    }
    assert_eq!((world.answered, world.events), (4, 3));
}

#[test]
fn after_a_restart_no_moment_is_linearizable_before_it_contains_every_answered_write() {
    let disk = SimDisk::new(1);
    let mut world = World::boot(&disk, 1);
    world.lead();
    world.put("a");
    let answered = world.answered;
    drop(world);
    let mut world = World::boot(&disk, 2);
    assert!(world.published.published.view.revision() < answered, "the file has it already");
    for _ in 0..3 {
        world.queue.push_back(Envelope::Consensus(ConsensusInput::Tick));
        while let Some(message) = world.queue.pop_front() {
            world.deliver(message);
            let has_all = world.published.published.view.revision() >= answered;
            assert!(has_all || !world.published.is_linearizable(), "a stale read is possible");
        }
    }
    assert!(world.published.is_linearizable());
}

/// Another member may acknowledge what is not applied here: a voter, a learner through which a client
/// writes, and a member that was removed a moment ago.
#[test]
fn a_moment_is_not_linearizable_with_a_learner_nor_before_all_that_was_committed_with_others() {
    let mut world = World::boot(&SimDisk::new(1), 1);
    world.lead();
    let moment = (*world.published).clone();
    assert!(moment.is_linearizable());

    let Some(Founding::New { mut members, token, .. }) = BootOptions::simulated(1).founding else {
        panic!("a simulated member begins a new cluster");
    };
    members.push(("second".to_owned(), vec!["http://second:2380".to_owned()]));
    let mut cluster = Cluster::initial(&members, &token).unwrap();
    assert!(cluster.member(moment.member).is_some(), "this member is one of the two voters");
    let with = |cluster: &Cluster| {
        let published =
            Published { cluster: Arc::new(cluster.clone()), ..moment.published.clone() };
        Moment { published, ..moment.clone() }
    };
    assert!(!with(&cluster).is_linearizable(), "there is another voter");
    let second = cluster.members().find(|member| member.id != moment.member).unwrap().clone();
    let learner = cluster::Member { is_learner: true, id: NodeId(2), ..second.clone() };
    cluster.apply(MembershipChange::Remove(second.id));
    assert!(with(&cluster).is_linearizable());
    cluster.apply(MembershipChange::Add(learner));
    assert!(!with(&cluster).is_linearizable(), "there is a learner");

    let alone_from = |index| {
        let leadership = Leadership { alone_from: index, ..moment.leadership };
        Moment { leadership, ..moment.clone() }.is_linearizable()
    };
    let applied = moment.published.applied.index;
    assert!(alone_from(Some(applied)));
    assert!(
        !alone_from(Some(Index(applied.0 + 1))),
        "the entry after it may be acknowledged elsewhere"
    );
    assert!(!alone_from(None), "raft still counts another member");
}

/// Once, the JSON of the v2 tree was compared, which differs each time it is made: the snapshot was
/// taken again and again, and never handed out.
#[test]
fn a_snapshot_for_other_members_is_taken_once_with_all_that_was_applied_before() {
    let mut world = World::boot(&SimDisk::new(1), 1);
    world.lead();
    world.put("a");
    let applied = world.published.published.applied;
    world.send(Envelope::Apply(ApplyInput::TakePeerSnapshot));
    let mut out = Vec::new();
    world.machines.backend_writer.commit(Duration::ZERO, &mut out).unwrap();
    let mut taken = Vec::new();
    for envelope in out {
        let Envelope::Apply(input) = envelope else { panic!("{envelope:?}") };
        let mut out = Vec::new();
        world.machines.applier.take(Duration::ZERO, input, &mut out).unwrap();
        for envelope in out {
            match envelope {
                Envelope::Consensus(ConsensusInput::PeerSnapshot(ref snapshot, ref file)) => {
                    let file = ReadView::of_file(file.clone());
                    taken.push((snapshot.id, file.applied().unwrap()));
                }
                Envelope::Backend(ref input) => {
                    let is_flush = matches!(input, BackendInput::CommitNow);
                    assert!(!is_flush, "it is taken again");
                }
                Envelope::Consensus(_)
                | Envelope::Apply(_)
                | Envelope::Log(_)
                | Envelope::Client(_)
                | Envelope::Peers(_)
                | Envelope::PeerSnapshot(..) => world.deliver(envelope),
            }
        }
    }
    assert_eq!(taken, [(applied, applied)]);
}

/// Before a cluster has the version 3.6, its members are stored only in the `.snap` file.
#[test]
fn a_member_whose_snap_file_with_the_members_is_lost_does_not_start() {
    let disk = SimDisk::new(1);
    let mut world = World::boot(&disk, 1);
    world.lead();
    let id = world.published.published.applied;
    world.machines.backend_writer.commit(Duration::ZERO, &mut Vec::new()).unwrap();
    let cluster = &world.published.published.cluster;
    assert_eq!(cluster.version(), None);
    let mut tree = v2store::V2Tree::default();
    let members = cluster.to_v2();
    let members = members.iter().map(|(id, urls, _)| (id.as_str(), urls.as_str(), None));
    tree.set_cluster(members, [], None);
    let data = tree.to_json().into();
    let snapshot = Snapshot { id, conf_state: ConfState::default(), data };
    let hard_state = HardState { term: id.term, vote: NodeId::NONE, commit: id.index };
    world.send(Envelope::Log(LogInput::Snapshot(snapshot, hard_state)));
    drop(world);
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    drop(boot(&vfs).unwrap());
    let file = Path::new("/data/default.etcd/member/snap").join(wal::snap::file_name(id));
    disk.remove_file(&file).unwrap();
    let error = boot(&vfs).unwrap_err().to_string();
    assert!(error.contains("no file names the members of the cluster"), "{error}");
}

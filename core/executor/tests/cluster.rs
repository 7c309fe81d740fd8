//! Three members on simulated disks whose machines are called one after the other, and a network
//! that delivers messages in order, or not at all.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use executor::boot::Files;
use executor::{
    ApplyInput, AutoCompaction, BootOptions, ClientMessage, ConsensusInput, Envelope, Founding,
    IdLane, LogStep, MachineOptions, Machines, Moment, RequestIds, received,
};
use member::Proposal;
use prost::Message as _;
use proto::NodeId;
use proto::etcdserverpb::{InternalRaftRequest, PutRequest, RequestHeader};
use raft::{Body, Message};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use vfs::{SimDisk, Vfs};

const TICK: Duration = Duration::from_millis(100);
/// Ticks within which three members elect a leader.
const ELECTION_TICKS: usize = 60;
/// The maximum number of message rounds that one event causes.
const SETTLE_ROUNDS: usize = 10_000;

struct Node {
    id: NodeId,
    machines: Machines,
    queue: VecDeque<Envelope>,
    published: Arc<Moment>,
    ids: IdLane,
    disk: Arc<dyn Vfs>,
    snap_dir: PathBuf,
    answered: Vec<u64>,
    reads: Vec<u64>,
    is_cut_off: bool,
    /// Messages that wait for a stalled disk.
    stalled: Option<Vec<Envelope>>,
    is_new: bool,
}

/// A message to another member.
enum Sent {
    Message(Message),
    Snapshot(Message, bolt::View),
}

struct Cluster {
    nodes: Vec<Node>,
    now: Duration,
    /// Snapshots that were sent.
    snapshots: usize,
}

fn options(at: usize) -> BootOptions {
    let names = ["a", "b", "c"];
    let urls = |name: &str| vec![format!("http://{name}:2380")];
    let mut options = BootOptions::simulated(at as u64 + 1);
    names[at].clone_into(&mut options.attributes.name);
    options.settings.attributes = options.attributes.clone();
    options.founding = Some(Founding::New {
        name: names[at].to_owned(),
        members: names.map(|name| (name.to_owned(), urls(name))).into(),
        token: "t".to_owned(),
    });
    options
}

impl Node {
    fn boot(at: usize, options: &BootOptions) -> Node {
        let node = Node::open(Arc::new(SimDisk::new(at as u64)), options);
        assert!(node.is_new);
        node
    }

    fn open(disk: Arc<dyn Vfs>, options: &BootOptions) -> Node {
        let files = Files::open(&disk, options).unwrap();
        let (keys, log) = (files.read_keys(), files.open_log().unwrap());
        let booted = files.start(keys, log).unwrap();
        let is_new = booted.is_new;
        let (id, snap_dir) = (booted.metadata.node, booted.snap_dir.clone());
        let ids = RequestIds::new(id, 1 << 20, 3);
        let options = MachineOptions {
            auto_compaction: AutoCompaction::Off,
            batch_interval: Duration::ZERO,
            batch_limit: 1,
            catch_up_entries: 10,
            snapshots_max: 2,
            segments_max: 2,
            ids,
            own_lane: 1,
            contexts_lane: 2,
        };
        let machines = Machines::new(Arc::clone(&disk), booted, &options);
        let published = Arc::clone(machines.applier.moment());
        Node {
            id,
            machines,
            queue: VecDeque::new(),
            published,
            ids: ids.lane(0),
            disk,
            snap_dir,
            answered: Vec::new(),
            reads: Vec::new(),
            is_cut_off: false,
            stalled: None,
            is_new,
        }
    }

    /// Handles everything that is queued. Returns the messages to other members.
    fn work(&mut self, now: Duration) -> Vec<Sent> {
        let mut sent = Vec::new();
        while let Some(envelope) = self.queue.pop_front() {
            let mut out = Vec::new();
            match envelope {
                write @ (Envelope::Log(_) | Envelope::Backend(_)) if self.stalled.is_some() => {
                    self.stalled.get_or_insert_default().push(write);
                }
                Envelope::Consensus(input) => {
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
                Envelope::Backend(input) => {
                    self.machines.backend_writer.take(now, input);
                    let due = self.machines.backend_writer.next_commit(now);
                    if due.is_some_and(|due| due <= now) {
                        self.machines.backend_writer.commit(now, &mut out).unwrap();
                    }
                }
                Envelope::Client(message) => self.observe(message),
                Envelope::Peers(messages) => sent.extend(messages.into_iter().map(Sent::Message)),
                Envelope::PeerSnapshot(message, file) => sent.push(Sent::Snapshot(*message, file)),
            }
            self.queue.extend(out);
        }
        sent
    }

    fn observe(&mut self, message: ClientMessage) {
        match message {
            ClientMessage::Publish(moment) => self.published = moment,
            ClientMessage::Answer(id, result) => {
                if result.is_ok() {
                    self.answered.push(id);
                }
            }
            ClientMessage::ReadReady(id) => self.reads.push(id),
            ClientMessage::Events(_)
            | ClientMessage::EventsLost
            | ClientMessage::Tokens(_)
            | ClientMessage::Reply(..)
            | ClientMessage::File(..)
            | ClientMessage::ReadRefused(_)
            | ClientMessage::Status(..) => {}
        }
    }

    fn leads(&self) -> bool {
        self.published.leadership.leader == self.id
    }

    /// The revision, and the hash of all keys with their history.
    fn data(&self) -> (i64, u32) {
        let view = &self.published.published.view;
        let mut hash = view.hash_kv(0).unwrap();
        let hash = loop {
            if let Some(hash) = hash.step().unwrap() {
                break hash.hash;
            }
        };
        (view.revision(), hash)
    }
}

impl Cluster {
    fn found() -> Cluster {
        Cluster::found_with(|_| {})
    }

    fn found_with(change: impl Fn(&mut BootOptions)) -> Cluster {
        let boot = |at| {
            let mut options = options(at);
            change(&mut options);
            Node::boot(at, &options)
        };
        Cluster { nodes: (0..3).map(boot).collect(), now: Duration::ZERO, snapshots: 0 }
    }

    fn tick(&mut self) {
        self.now += TICK;
        for node in &mut self.nodes {
            node.queue.push_back(Envelope::Consensus(ConsensusInput::Tick));
            node.queue.push_back(Envelope::Apply(ApplyInput::Tick));
        }
        self.settle();
    }

    /// Delivers messages until none is left.
    fn settle(&mut self) {
        for _ in 0..SETTLE_ROUNDS {
            let mut sent = Vec::new();
            for node in &mut self.nodes {
                sent.extend(node.work(self.now).into_iter().map(|sent| (node.id, sent)));
            }
            if sent.is_empty() {
                return;
            }
            for (from, sent) in sent {
                match sent {
                    Sent::Message(message) => self.deliver(from, message),
                    Sent::Snapshot(message, file) => self.install(from, message, &file),
                }
            }
        }
        panic!("messages do not cease");
    }

    fn at(&self, id: NodeId) -> usize {
        self.nodes.iter().position(|node| node.id == id).unwrap()
    }

    fn connects(&self, from: NodeId, to: NodeId) -> bool {
        !self.nodes[self.at(from)].is_cut_off && !self.nodes[self.at(to)].is_cut_off
    }

    fn deliver(&mut self, from: NodeId, message: Message) {
        if self.connects(from, message.to) {
            let to = self.at(message.to);
            self.nodes[to].queue.push_back(Envelope::Consensus(ConsensusInput::Message(message)));
        }
    }

    /// Copies the database of a snapshot to the receiver, as the transport does.
    fn install(&mut self, from: NodeId, message: Message, file: &bolt::View) {
        self.snapshots += 1;
        let to = message.to;
        let delivered = self.connects(from, to);
        if delivered {
            let Body::Snapshot(snapshot) = &message.body else { unreachable!("a snapshot") };
            let node = &self.nodes[self.at(to)];
            let path = received::path(&node.snap_dir, snapshot.id.index);
            let copy = node.disk.open(&path, vfs::Mode::Create).unwrap();
            let (mut chunks, mut len) = (file.copy(), 0);
            while let Some(chunk) = chunks.next_chunk().unwrap() {
                copy.write_at(&chunk, len).unwrap();
                len += chunk.len() as u64;
            }
            copy.sync_data().unwrap();
            node.disk.sync_dir(&node.snap_dir).unwrap();
            self.deliver(from, message);
        }
        let report = ConsensusInput::SnapshotSent { to, delivered };
        let from = self.at(from);
        self.nodes[from].queue.push_back(Envelope::Consensus(report));
    }

    /// Ticks until the members that are not cut off have a leader. Returns the leader.
    fn elect(&mut self) -> usize {
        for _ in 0..ELECTION_TICKS {
            self.tick();
            let leads = |node: &Node| node.leads() && !node.is_cut_off;
            let Some(leader) = self.nodes.iter().position(leads) else { continue };
            let id = self.nodes[leader].id;
            let mut others = self.nodes.iter().filter(|node| !node.is_cut_off);
            if others.all(|node| node.published.leadership.leader == id) {
                return leader;
            }
        }
        panic!("no leader within {ELECTION_TICKS} ticks");
    }

    /// Asserts that all members are at this revision and have the same keys.
    fn assert_equal(&self, revision: i64) {
        let all: Vec<(i64, u32)> = self.nodes.iter().map(Node::data).collect();
        assert_eq!(all[0].0, revision);
        assert!(all.iter().all(|data| *data == all[0]), "{all:?}");
    }

    fn put(&mut self, at: usize, value: &str) -> u64 {
        let id = self.propose(at, value);
        self.settle();
        id
    }

    /// Queues a put.
    fn propose(&mut self, at: usize, value: &str) -> u64 {
        let node = &mut self.nodes[at];
        let id = node.ids.next_id();
        let put =
            PutRequest { key: "k".into(), value: value.to_owned().into(), ..PutRequest::default() };
        let header = Some(RequestHeader { id, ..RequestHeader::default() });
        let request = InternalRaftRequest { header, put: Some(put), ..Default::default() };
        let proposal = Proposal::request(id, request.encode_to_vec().into());
        node.queue.push_back(Envelope::Consensus(ConsensusInput::Propose(proposal)));
        id
    }

    fn read(&mut self, at: usize) -> u64 {
        let node = &mut self.nodes[at];
        let id = node.ids.next_id();
        node.queue.push_back(Envelope::Consensus(ConsensusInput::Read(id)));
        self.settle();
        id
    }
}

#[test]
fn three_members_elect_a_leader_and_take_writes_and_reads_through_each() {
    let mut cluster = Cluster::found();
    cluster.elect();
    for at in 0..3 {
        let put = cluster.put(at, "v");
        assert!(cluster.nodes[at].answered.contains(&put));
        for reader in 0..3 {
            let read = cluster.read(reader);
            assert!(cluster.nodes[reader].reads.contains(&read));
            assert_eq!(cluster.nodes[reader].data(), cluster.nodes[at].data());
        }
    }
}

/// The numbers of entries of the appends to this member.
fn appended(sent: &[Sent], to: NodeId) -> Vec<usize> {
    let mut counts = Vec::new();
    for sent in sent {
        if let Sent::Message(Message { to: receiver, body: Body::Append { entries, .. }, .. }) =
            sent
            && *receiver == to
        {
            counts.push(entries.len());
        }
    }
    counts
}

/// A leader and a follower, and the leader's round with one entry that it has just sent. Meanwhile
/// two puts have come to the leader and one to the follower, which has forwarded it.
fn a_round_under_way() -> (Cluster, usize, NodeId, Vec<Sent>) {
    let mut cluster = Cluster::found();
    let leader = cluster.elect();
    let follower = (leader + 1) % 3;
    let id = cluster.nodes[follower].id;
    cluster.propose(leader, "1");
    let first = cluster.nodes[leader].work(cluster.now);
    assert_eq!(appended(&first, id), [1]);
    cluster.propose(leader, "2");
    cluster.propose(leader, "3");
    cluster.propose(follower, "4");
    for sent in cluster.nodes[follower].work(cluster.now) {
        let Sent::Message(message) = sent else { panic!("a message") };
        cluster.deliver(id, message);
    }
    let meanwhile = cluster.nodes[leader].work(cluster.now);
    assert_eq!(appended(&meanwhile, id), [0; 0]);
    (cluster, leader, id, first)
}

#[test]
fn proposals_during_a_round_make_one_append_after_it() {
    let (mut cluster, leader, follower, first) = a_round_under_way();
    let from = cluster.nodes[leader].id;
    for sent in first {
        let Sent::Message(message) = sent else { panic!("a message") };
        cluster.deliver(from, message);
    }
    let mut appends = Vec::new();
    for _ in 0..4 {
        for at in 0..3 {
            let (id, now) = (cluster.nodes[at].id, cluster.now);
            let sent = cluster.nodes[at].work(now);
            appends.extend(appended(&sent, follower).into_iter().filter(|entries| *entries > 0));
            for sent in sent {
                let Sent::Message(message) = sent else { panic!("a message") };
                cluster.deliver(id, message);
            }
        }
    }
    assert_eq!(appends, [3]);
    cluster.settle();
    cluster.tick();
    cluster.assert_equal(5);
}

#[test]
fn a_round_begins_before_the_last_one_is_committed_if_that_takes_long() {
    let (mut cluster, leader, follower, _) = a_round_under_way();
    assert!(cluster.nodes[leader].machines.consensus.overlapping_round().is_some());
    cluster.nodes[leader].machines.consensus.end_gathering();
    let mut out = Vec::new();
    cluster.nodes[leader].machines.consensus.end_round(&mut out);
    cluster.nodes[leader].queue.extend(out);
    let sent = cluster.nodes[leader].work(cluster.now);
    assert_eq!(appended(&sent, follower), [3]);
}

#[test]
fn a_follower_answers_an_append_as_soon_as_it_is_synced() {
    let (mut cluster, _, follower, first) = a_round_under_way();
    let append = first.into_iter().find_map(|sent| match sent {
        Sent::Message(message) if message.to == follower => Some(message),
        Sent::Message(_) | Sent::Snapshot(..) => None,
    });
    let node = cluster.nodes.iter_mut().find(|node| node.id == follower).unwrap();
    let Machines { consensus, log_writer, .. } = &mut node.machines;
    let mut out = Vec::new();
    consensus.take(ConsensusInput::Message(append.unwrap()), &mut out);
    consensus.end_round(&mut out);
    let [Envelope::Log(_)] = &out[..] else { panic!("{out:?}") };
    let Some(Envelope::Log(input)) = out.pop() else { unreachable!() };
    log_writer.take(input);
    assert_eq!(log_writer.step(&mut out).unwrap(), Some(LogStep::Write));
    assert!(out.is_empty(), "it is not durable: {out:?}");
    assert_eq!(log_writer.step(&mut out).unwrap(), Some(LogStep::Sync));
    let [Envelope::Peers(sent), Envelope::Consensus(ConsensusInput::Durable(_))] = &out[..] else {
        panic!("{out:?}")
    };
    assert!(matches!(sent[..], [Message { body: Body::AppendAccepted { .. }, .. }]), "{sent:?}");
}

#[test]
fn every_member_publishes_its_name() {
    let mut cluster = Cluster::found();
    cluster.elect();
    cluster.tick();
    cluster.tick();
    for node in &cluster.nodes {
        let members = node.published.published.cluster.members();
        let mut names: Vec<&str> = members.map(|member| &*member.name).collect();
        names.sort_unstable();
        assert_eq!(names, ["a", "b", "c"]);
    }
}

#[test]
fn a_leader_that_is_cut_off_answers_no_read_and_no_write_and_the_others_go_on() {
    let mut cluster = Cluster::found();
    let old = cluster.elect();
    cluster.put(old, "before");
    cluster.nodes[old].is_cut_off = true;
    let put = cluster.put(old, "lost");
    let read = cluster.read(old);
    let new = cluster.elect();
    assert_ne!(new, old);
    let after = cluster.put(new, "after");
    assert!(cluster.nodes[new].answered.contains(&after));
    assert!(!cluster.nodes[old].answered.contains(&put));
    assert!(!cluster.nodes[old].reads.contains(&read));
    for _ in 0..2 * 10 {
        cluster.tick();
    }
    assert!(!cluster.nodes[old].leads(), "it has had no quorum for two election timeouts");
    cluster.nodes[old].is_cut_off = false;
    for _ in 0..ELECTION_TICKS {
        cluster.tick();
    }
    cluster.assert_equal(3);
}

#[test]
fn a_member_that_is_too_far_behind_gets_a_snapshot_and_goes_on_from_it() {
    let mut cluster = Cluster::found();
    let leader = cluster.elect();
    let behind = (leader + 1) % 3;
    cluster.put(leader, "first");
    cluster.nodes[behind].is_cut_off = true;
    // The simulated members save a snapshot every 50 entries and keep 10 behind it.
    for count in 0..200 {
        cluster.put(leader, &format!("{count}"));
    }
    cluster.nodes[behind].is_cut_off = false;
    for _ in 0..ELECTION_TICKS {
        cluster.tick();
    }
    assert!(cluster.snapshots > 0);
    cluster.assert_equal(202);
    cluster.elect();
    let put = cluster.put(behind, "last");
    assert!(cluster.nodes[behind].answered.contains(&put));
    cluster.tick();
    cluster.assert_equal(203);
}

#[test]
fn a_member_that_was_away_shortly_gets_entries_that_left_the_memory_from_the_log() {
    let mut cluster = Cluster::found_with(|options| options.log_sizes.window_bytes = 1);
    let leader = cluster.elect();
    let behind = (leader + 1) % 3;
    cluster.put(leader, "first");
    cluster.nodes[behind].is_cut_off = true;
    // Fewer entries than there are between two snapshots.
    for count in 0..30 {
        cluster.put(leader, &format!("{count}"));
    }
    cluster.nodes[behind].is_cut_off = false;
    for _ in 0..ELECTION_TICKS {
        cluster.tick();
    }
    cluster.assert_equal(32);
    assert_eq!(cluster.snapshots, 0);
}

#[test]
fn a_forced_member_goes_on_alone_with_its_whole_log() {
    let mut cluster = Cluster::found();
    let leader = cluster.elect();
    for count in 0..60 {
        cluster.put(leader, &format!("{count}"));
    }
    // This member does not know that the entries are committed; another member may.
    for at in 0..3 {
        cluster.nodes[at].is_cut_off = at != leader;
    }
    cluster.put(leader, "last");
    let nodes = std::mem::take(&mut cluster.nodes);
    let disk = nodes.into_iter().nth(leader).unwrap().disk;
    let mut options = options(leader);
    options.forces_new_cluster = true;
    for forced in [true, true, false] {
        options.forces_new_cluster = forced;
        // The files are locked until their members are dropped.
        cluster.nodes.clear();
        cluster.nodes = vec![Node::open(Arc::clone(&disk), &options)];
        assert!(!cluster.nodes[0].is_new);
        cluster.elect();
        cluster.assert_equal(62);
        let members = cluster.nodes[0].published.published.cluster.members().count();
        assert_eq!((members, cluster.nodes[0].published.is_sole_member()), (1, true));
    }
    let put = cluster.put(0, "alone");
    assert!(cluster.nodes[0].answered.contains(&put));
    cluster.assert_equal(63);
}

#[test]
fn a_leader_whose_disk_stalls_hands_its_place_over_and_catches_up_when_the_disk_works_again() {
    let mut cluster = Cluster::found();
    let old = cluster.elect();
    cluster.put(old, "before");
    cluster.nodes[old].stalled = Some(Vec::new());
    cluster.put(old, "stalls");
    // Two election timeouts, and one for the election.
    for _ in 0..3 * 10 {
        cluster.tick();
    }
    let new = cluster.elect();
    assert_ne!(new, old);
    let put = cluster.put(new, "after");
    assert!(cluster.nodes[new].answered.contains(&put));
    let writes = cluster.nodes[old].stalled.take().unwrap();
    cluster.nodes[old].queue.extend(writes);
    cluster.settle();
    cluster.tick();
    cluster.tick();
    cluster.assert_equal(4);
}

//! Three members on simulated disks whose machines are called one after the other, and a network
//! that delivers messages in order, or not at all.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use executor::boot::Files;
use executor::{
    ApplyInput, AutoCompaction, BootOptions, ClientMessage, ConsensusInput, Envelope, Founding,
    IdLane, MachineOptions, Machines, Moment, RequestIds, received,
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
/// Rounds of messages that follow from one event at most.
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
    /// What waits for a disk that is stalled.
    stalled: Option<Vec<Envelope>>,
}

/// What goes to another member.
enum Sent {
    Message(Message),
    Snapshot(Message, bolt::View),
}

struct Cluster {
    nodes: Vec<Node>,
    now: Duration,
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
    fn boot(at: usize) -> Node {
        let disk: Arc<dyn Vfs> = Arc::new(SimDisk::new(at as u64));
        let options = options(at);
        let files = Files::open(&disk, &options).unwrap();
        let (keys, log) = (files.read_keys(), files.open_log().unwrap());
        let booted = files.start(keys, log).unwrap();
        assert!(booted.is_new);
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
            | ClientMessage::Reply(..)
            | ClientMessage::File(..)
            | ClientMessage::ReadRefused(_)
            | ClientMessage::Matched(..) => {}
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
        Cluster { nodes: (0..3).map(Node::boot).collect(), now: Duration::ZERO }
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

    /// Ticks until the members that are not cut off have a leader, and says which one.
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

    /// All members are at this revision and have the same keys.
    fn assert_equal(&self, revision: i64) {
        let all: Vec<(i64, u32)> = self.nodes.iter().map(Node::data).collect();
        assert_eq!(all[0].0, revision);
        assert!(all.iter().all(|data| *data == all[0]), "{all:?}");
    }

    fn put(&mut self, at: usize, value: &str) -> u64 {
        let node = &mut self.nodes[at];
        let id = node.ids.next_id();
        let put =
            PutRequest { key: "k".into(), value: value.to_owned().into(), ..PutRequest::default() };
        let header = Some(RequestHeader { id, ..RequestHeader::default() });
        let request = InternalRaftRequest { header, put: Some(put), ..Default::default() };
        let proposal = Proposal::request(id, request.encode_to_vec().into());
        node.queue.push_back(Envelope::Consensus(ConsensusInput::Propose(proposal)));
        self.settle();
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
    cluster.assert_equal(202);
    cluster.elect();
    let put = cluster.put(behind, "last");
    assert!(cluster.nodes[behind].answered.contains(&put));
    cluster.tick();
    cluster.assert_equal(203);
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

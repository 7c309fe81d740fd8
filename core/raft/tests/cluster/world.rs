//! The members, the network between them, and the observations for the checks.

use crate::member::Member;
use bytes::Bytes;
use proto::raftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};
use proto::{ConfState, Entry, Index, NodeId};
use raft::tracker::ProgressState;
use raft::{Body, Config, Invariants, Message, Node, Read, Role};
use std::collections::BTreeSet;

const MEMBERS: u64 = 5;

pub(crate) struct World {
    random: u64,
    ticks_in_200: usize,
    members: Vec<Member>,
    messages: Vec<Message>,
    isolated: BTreeSet<NodeId>,
    pub(crate) invariants: Invariants,
    /// The entries applied by any member, in log order.
    pub(crate) committed: Vec<Entry>,
    /// The configuration after the last of these entries.
    conf: ConfState,
    /// The highest index applied by any member when a read was requested.
    reads: Vec<Index>,
    pub(crate) reads_answered: u64,
    pub(crate) changes_applied: u64,
    pub(crate) snapshots_sent: u64,
    pub(crate) log_reads: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let voters = (1..=1 + seed % MEMBERS).map(NodeId).collect();
        let conf = ConfState { voters, ..ConfState::default() };
        let member = |id: u64| {
            let mut config = Config::new(NodeId(id), seed * 100 + id);
            config.limits.inflight.count = 4;
            config.limits.append_bytes_max = 64;
            config.limits.applying_bytes_max = 300;
            config.rules.pre_vote = seed.is_multiple_of(2);
            config.rules.check_quorum = seed % 4 < 2;
            config.rules.steps_down_on_removal = seed % 8 < 4;
            // Lagging members get entries of the log file, or snapshots.
            config.rules.reads_log = seed.is_multiple_of(3);
            config.rules.gathers_reads = seed.is_multiple_of(2);
            if config.rules.reads_log {
                config.limits.log_window_bytes_max = 300;
            }
            // One write at a time, or several that overtake each other's entries.
            let writes_max = 1 + usize::try_from(seed % 3).unwrap();
            // A node that is not a member yet also has the first configuration, since its log
            // begins after it.
            Member::new(config, conf.clone(), writes_max)
        };
        World {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            ticks_in_200: 4 + usize::try_from(seed % 5).unwrap() * 3,
            members: (1..=MEMBERS).map(member).collect(),
            messages: Vec::new(),
            isolated: BTreeSet::new(),
            invariants: Invariants::default(),
            committed: Vec::new(),
            conf: conf.clone(),
            reads: Vec::new(),
            reads_answered: 0,
            changes_applied: 0,
            snapshots_sent: 0,
            log_reads: 0,
        }
    }

    fn draw(&mut self, end: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % end.max(1) as u64).unwrap()
    }

    /// One random event. The frequency of ticks differs by seed.
    pub(crate) fn act(&mut self) {
        let at = self.draw(self.members.len());
        if self.draw(200) < self.ticks_in_200 {
            self.members[at].node.tick();
        }
        match self.draw(100) {
            0..45 => self.deliver(),
            45..70 => self.ready(at),
            70..80 => {
                let count = 1 + self.draw(self.members[at].writes());
                self.finish_writes(at, count);
            }
            80..88 => {
                let count = 1 + self.draw(8);
                self.apply(at, count);
            }
            88..92 => self.propose(at),
            92..95 => self.change_configuration(at),
            95..97 => self.read(at),
            97 => {
                let (kept, torn) = (self.draw(self.members[at].writes() + 1), self.draw(4));
                let seed = self.random;
                // A crash is rarer than anything else.
                if self.draw(3) == 0 {
                    self.members[at].crash(kept, torn, seed);
                    self.invariants.crashed(self.members[at].id());
                }
            }
            98 => self.maintain(at),
            _ => {
                self.isolated.clear();
                if self.draw(3) == 0 {
                    self.isolated.insert(self.members[at].id());
                }
            }
        }
        self.watch(at);
    }

    /// Rare events: checkpoints, snapshots, transfers, and the reports of a transport.
    fn maintain(&mut self, at: usize) {
        let other = NodeId(1 + self.draw(self.members.len()) as u64);
        let draw = self.draw(8);
        let member = &mut self.members[at];
        match draw {
            0 => member.compact(),
            1 => member.node.transfer_leadership(other),
            2 => member.node.forget_leader(),
            3 => member.node.report_unreachable(other),
            4 => member.node.report_snapshot(other, false),
            _ => member.checkpoint(),
        }
    }

    fn finish_writes(&mut self, at: usize, count: usize) {
        let messages = self.members[at].finish_writes(count);
        self.messages.extend(messages);
        while self.members[at].read_log() {
            self.log_reads += 1;
        }
    }

    fn watch(&mut self, at: usize) {
        self.invariants.check(self.members.iter().map(|member| &member.node));
        let node = &self.members[at].node;
        let committed = node.entries(node.commit(), 0);
        if let (Role::Leader, Some(last)) = (node.role(), committed.first()) {
            let holders = self.members.iter().filter(|member| member.holds(last.id()));
            let ids: BTreeSet<NodeId> = holders.map(Member::id).collect();
            self.check_quorum_holds(node, &ids);
        }
    }

    /// Checks that the entries that a leader has committed are on the disks of a majority.
    fn check_quorum_holds(&self, leader: &Node, holders: &BTreeSet<NodeId>) {
        let conf = leader.conf_state();
        let has_majority = |voters: &[NodeId]| {
            let count = voters.iter().filter(|id| holders.contains(id)).count();
            voters.is_empty() || count > voters.len() / 2
        };
        // The configuration may have changed since, so one of the two majorities is enough.
        let holds = has_majority(&conf.voters) || has_majority(&conf.voters_outgoing);
        let changing = leader.applied_index() < leader.commit();
        assert!(
            holds || changing || conf != self.conf || !leader.has_committed_in_term(),
            "committed is durable: entry {} of {} is on {holders:?} of {conf:?}",
            leader.commit(),
            leader.id()
        );
    }

    /// Delivers, repeats or loses a random message in flight.
    fn deliver(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        let chosen = self.draw(self.messages.len());
        let message = match self.draw(20) {
            0 => self.messages[chosen].clone(),
            _ => self.messages.swap_remove(chosen),
        };
        let cut = self.isolated.contains(&message.from) || self.isolated.contains(&message.to);
        if !cut && self.draw(20) > 0 {
            self.step(message);
        }
    }

    fn step(&mut self, message: Message) {
        let sent = Message::from_pb(message.to_pb()).unwrap();
        assert_eq!(sent, message, "a message survives the wire");
        let at = usize::try_from(message.to.0).unwrap() - 1;
        // Only messages of removed members may be refused.
        if let Err(error) = self.members[at].node.step(message) {
            assert!(error.to_string().contains("which is no member"), "{error}");
        }
        self.watch(at);
    }

    fn ready(&mut self, at: usize) {
        let (messages, reads) = self.members[at].ready();
        let is_snapshot = |message: &&Message| matches!(message.body, Body::Snapshot(_));
        self.snapshots_sent += messages.iter().filter(is_snapshot).count() as u64;
        self.messages.extend(messages);
        // A network holds only so much.
        while self.messages.len() > 200 {
            let lost = self.draw(self.messages.len());
            self.messages.swap_remove(lost);
        }
        for Read { context, index } in reads {
            let asked = self.reads[usize::try_from(context).unwrap()];
            assert!(index >= asked, "a read at {index} misses {asked}, which was applied before");
            self.reads_answered += 1;
        }
    }

    /// Applies at most `count` entries.
    fn apply(&mut self, at: usize, count: usize) {
        for _ in 0..count {
            let Some((entry, conf)) = self.members[at].apply() else { return };
            let place = usize::try_from(entry.index.0).unwrap() - 1;
            if let Some(known) = self.committed.get(place) {
                assert_eq!(*known, entry, "members apply different entries");
                continue;
            }
            assert_eq!(place, self.committed.len(), "entries are applied in order");
            self.committed.push(entry);
            if let Some(conf) = conf {
                self.conf = conf;
                self.changes_applied += 1;
            }
        }
    }

    fn propose(&mut self, at: usize) {
        let count = 1 + self.draw(3);
        let data = (0..count).map(|_| Bytes::from(self.random.to_string())).collect();
        // Fails without a leader.
        self.members[at].node.propose(data).ok();
    }

    fn change_configuration(&mut self, at: usize) {
        let conf = self.members[at].node.conf_state();
        if self.members[at].node.role() != Role::Leader {
            return;
        }
        let joint = !conf.voters_outgoing.is_empty();
        let mut changes = ConfChangeV2::default();
        if !joint || self.draw(4) == 0 {
            let mut voters = conf.voters.len();
            for _ in 0..=self.draw(2) {
                let node = NodeId(1 + self.draw(5) as u64);
                let kind = match self.draw(4) {
                    0 if voters > 2 => ConfChangeType::ConfChangeRemoveNode,
                    1 if voters > 2 => ConfChangeType::ConfChangeAddLearnerNode,
                    _ => ConfChangeType::ConfChangeAddNode,
                };
                voters -= usize::from(kind != ConfChangeType::ConfChangeAddNode);
                changes
                    .changes
                    .push(ConfChangeSingle { r#type: Some(kind.into()), node_id: Some(node.0) });
            }
            let transition = match self.draw(3) {
                0 => ConfChangeTransition::JointExplicit,
                _ => ConfChangeTransition::Auto,
            };
            changes.transition = Some(transition.into());
        }
        self.members[at].node.propose_conf_changes(&changes).ok();
    }

    fn read(&mut self, at: usize) {
        let context = self.reads.len() as u64;
        self.reads.push(Index(self.committed.len() as u64));
        self.members[at].node.read_index(context).unwrap_or_default();
    }

    /// Runs without faults and without removed members, until all members have all entries, including
    /// one that is proposed now.
    pub(crate) fn heal(&mut self) {
        self.isolated.clear();
        let before = self.committed.len();
        for _ in 0..2_000 {
            let lists = [&self.conf.voters, &self.conf.voters_outgoing, &self.conf.learners];
            let members: BTreeSet<NodeId> = lists.into_iter().flatten().copied().collect();
            for at in 0..self.members.len() {
                if members.contains(&self.members[at].id()) {
                    self.members[at].node.tick();
                    self.give_up_snapshots(at);
                    self.watch(at);
                }
            }
            self.settle();
            let leads = |member: &Member| {
                member.node.role() == Role::Leader && members.contains(&member.id())
            };
            if self.committed.len() < before + 10 {
                if let Some(at) = self.members.iter().position(leads) {
                    self.propose(at);
                }
                continue;
            }
            let all = Index(self.committed.len() as u64);
            let has_all =
                |member: &Member| !members.contains(&member.id()) || member.applied_index() == all;
            if self.members.iter().all(has_all) {
                return;
            }
        }
        let mut states = String::new();
        for Member { node, .. } in &self.members {
            states += &format!(
                "\n{} {} term {} commit {} applied {} last {:?}\n{:?}\n{}",
                node.id(),
                node.role(),
                node.term(),
                node.commit(),
                node.applied_index(),
                node.last(),
                node.conf_state(),
                raft::tracker::describe(node.progress())
            );
        }
        panic!("the members do not come together: {:?}{states}", self.conf);
    }

    /// Tells a leader that the snapshots in flight are lost, as a transport does.
    fn give_up_snapshots(&mut self, at: usize) {
        let node = &mut self.members[at].node;
        let waiting: Vec<NodeId> = node
            .progress()
            .iter()
            .filter(|(_, progress)| progress.state == ProgressState::Snapshot)
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            node.report_snapshot(id, false);
        }
    }

    /// Does all work that needs no tick.
    fn settle(&mut self) {
        for _ in 0..50 {
            for at in 0..self.members.len() {
                while !self.members[at].is_idle() {
                    self.ready(at);
                    self.finish_writes(at, usize::MAX);
                    self.apply(at, usize::MAX);
                    self.watch(at);
                }
            }
            if self.messages.is_empty() {
                return;
            }
            for message in std::mem::take(&mut self.messages) {
                self.step(message);
            }
        }
    }
}

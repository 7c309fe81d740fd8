//! The commands of the scripts.
//!
//! Source: etcd raft v3.7 rafttest/interaction_env_handler*.go.

#![expect(clippy::unwrap_used, reason = "a test's environment")]

use crate::env::{Env, Mail};
use crate::lines::caught;
use crate::member::Member;
use bytes::Bytes;
use proto::raftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, MessageType,
};
use proto::{ConfChange, ConfState, EntryId, Index, NodeId, Term};
use raft::{
    Body, Config, DroppedRequest, Message, Node, Proposed, RaftSnapshot, ReadMode, Restored, Role,
};
use script::Case;
use tracing::Level;

/// The ticks of `tick-election`; `tick-heartbeat` is one tick.
const ELECTION_TICKS: u64 = 3;

impl Env {
    pub(crate) fn run(&mut self, case: &Case) -> String {
        let result = self.command(case);
        let mut output = self.take_output();
        if result.is_err() {
            // It is printed at every log level.
            output += "raft proposal dropped";
        }
        if output.is_empty() { "ok".into() } else { output }
    }

    fn command(&mut self, case: &Case) -> Result<(), DroppedRequest> {
        match case.command.as_str() {
            "log-level" => self.level = level(&case.word::<String>(0)),
            "add-nodes" => self.add_nodes(case),
            "campaign" => self.on(first(case), Node::campaign),
            "tick" | "tick-heartbeat" => self.on(first(case), Node::tick),
            "tick-election" => self.on(first(case), |node| {
                (0..ELECTION_TICKS).for_each(|_| node.tick());
            }),
            "set-randomized-election-timeout" => {
                let ticks = case.value("timeout").unwrap();
                self.on(first(case), |node| node.set_election_timeout(ticks));
            }
            "forget-leader" => self.on(first(case), Node::forget_leader),
            "transfer-leadership" => {
                let from: usize = case.value("from").unwrap();
                let to = NodeId(case.value("to").unwrap());
                self.on(from - 1, |node| node.transfer_leadership(to));
            }
            "propose" => {
                let data: Vec<Bytes> =
                    case.words()[1..].iter().map(|word| Bytes::from(String::from(*word))).collect();
                self.propose(case, |node| node.propose(data))?;
            }
            "propose-conf-change" => self.propose_conf_change(case)?,
            "read-index" => {
                let context: u64 = case.word(1);
                self.on(first(case), |node| node.read_index(context).unwrap());
            }
            "report-unreachable" => {
                let unreachable = NodeId(case.word(1));
                self.on(first(case), |node| node.report_unreachable(unreachable));
            }
            "send-snapshot" => self.send_snapshot(case),
            "compact" => {
                let index = Index(case.word(1));
                self.with(first(case), |member| member.compact(index));
                self.print(&self.members[first(case)].log());
            }
            "raft-log" => self.print(&self.members[first(case)].log()),
            "deliver-msgs" => self.deliver_messages(case),
            "process-ready" => self.on_each(case, "handling Ready", Env::process_ready),
            "process-append-thread" => {
                self.on_each(case, "processing append thread", Env::process_append);
            }
            "process-apply-thread" => {
                self.on_each(case, "processing apply thread", Env::process_apply);
            }
            "stabilize" => self.stabilize_nodes(case),
            "status" => self.status(case),
            "raft-state" => self.raft_state(),
            other => panic!("{}: no command {other}", case.place()),
        }
        Ok(())
    }

    fn on_each(&mut self, case: &Case, title: &str, work: impl Fn(&mut Env, usize)) {
        let nodes = nodes(case);
        for at in nodes.iter().copied() {
            if nodes.len() > 1 {
                self.print(&format!("> {} {title}", at + 1));
                self.indented(|env| work(env, at));
            } else {
                work(self, at);
            }
        }
    }

    fn add_nodes(&mut self, case: &Case) {
        let ids = |key: &str| case.values(key).into_iter().map(NodeId).collect();
        let index = case.value("index");
        let id = EntryId {
            term: Term(u64::from(index.is_some())),
            index: Index(index.unwrap_or_default()),
        };
        let conf_state =
            ConfState { voters: ids("voters"), learners: ids("learners"), ..ConfState::default() };
        let content: String = case.value("content").unwrap_or_default();
        let snapshot = RaftSnapshot { id, conf_state, data: content.into() };
        let is_async = case.value("async-storage-writes").unwrap_or(false);
        for _ in 0..case.word(0) {
            let config = config(case, NodeId(self.members.len() as u64 + 1), is_async);
            let restored = Restored {
                conf_state: snapshot.conf_state.clone(),
                snapshot: id,
                applied: id.index,
                ..Restored::default()
            };
            let (node, lines) = caught(self.level, || Node::new(config, restored).unwrap());
            self.members.push(Member::new(node, snapshot.clone(), is_async));
            for line in lines {
                self.print(&line);
            }
        }
    }

    fn propose(
        &mut self,
        case: &Case,
        work: impl FnOnce(&mut Node) -> Result<Proposed, DroppedRequest>,
    ) -> Result<(), DroppedRequest> {
        self.with(first(case), |member| work(&mut member.node)).map(|_| ())
    }

    /// Example: `propose-conf-change 1 transition=explicit` with `v2 l3` as input.
    fn propose_conf_change(&mut self, case: &Case) -> Result<(), DroppedRequest> {
        let transition = match case.value::<String>("transition").as_deref() {
            None | Some("auto") => ConfChangeTransition::Auto,
            Some("implicit") => ConfChangeTransition::JointImplicit,
            Some("explicit") => ConfChangeTransition::JointExplicit,
            Some(other) => panic!("no transition {other}"),
        };
        let changes: Vec<(ConfChangeType, u64)> =
            case.input.split_whitespace().map(change).collect();
        if case.value("v1").unwrap_or(false) {
            let [(kind, node)] = changes[..] else { panic!("one change is expected") };
            let change = ConfChange { id: 0, kind, node: NodeId(node), context: Bytes::new() };
            return self.propose(case, |node| node.propose_conf_change(&change));
        }
        let single = |(kind, node): (ConfChangeType, u64)| ConfChangeSingle {
            r#type: Some(kind.into()),
            node_id: Some(node),
        };
        let changes = ConfChangeV2 {
            transition: Some(transition.into()),
            changes: changes.into_iter().map(single).collect(),
            context: None,
        };
        self.propose(case, |node| node.propose_conf_changes(&changes))
    }

    fn send_snapshot(&mut self, case: &Case) {
        let from = &self.members[first(case)];
        let message = Message {
            from: from.node.id(),
            to: NodeId(case.word(1)),
            term: from.node.term(),
            body: Body::Snapshot(Box::new(from.snapshot().clone())),
        };
        self.print(&message.to_string());
        self.mail.push(Mail::Message(message));
    }

    fn deliver_messages(&mut self, case: &Case) {
        let kind =
            case.value::<String>("type").map(|name| MessageType::from_str_name(&name).unwrap());
        let mut found = false;
        for arg in &case.args {
            if arg.values.is_empty() {
                found |= self.deliver(NodeId(arg.key.parse().unwrap()), kind, false);
            } else if arg.key == "drop" {
                for id in &arg.values {
                    found |= self.deliver(NodeId(id.parse().unwrap()), kind, true);
                }
            }
        }
        if !found {
            self.print("no messages");
        }
    }

    fn stabilize_nodes(&mut self, case: &Case) {
        let before = self.level;
        if let Some(name) = case.value::<String>("log-level") {
            self.level = level(&name);
        }
        let chosen = nodes(case);
        let all: Vec<usize> = (0..self.members.len()).collect();
        self.stabilize(if chosen.is_empty() { &all } else { &chosen });
        self.level = before;
    }

    fn status(&mut self, case: &Case) {
        let node = &self.members[first(case)].node;
        if node.role() == Role::Leader {
            let text = raft::tracker::describe(node.progress());
            self.print(&text);
        }
    }

    fn raft_state(&mut self) {
        for at in 0..self.members.len() {
            let node = &self.members[at].node;
            let ConfState { voters, voters_outgoing, .. } = node.conf_state();
            let votes = voters.contains(&node.id()) || voters_outgoing.contains(&node.id());
            let kind = if votes { "(Voter)" } else { "(Non-Voter)" };
            let text = format!(
                "{}: {} {kind} Term:{} Lead:{}",
                node.id(),
                node.role(),
                node.term(),
                node.leader()
            );
            self.print(&text);
        }
    }
}

/// The node that a command is about.
fn first(case: &Case) -> usize {
    case.word::<usize>(0) - 1
}

fn nodes(case: &Case) -> Vec<usize> {
    case.words().into_iter().map(|word| word.parse::<usize>().unwrap() - 1).collect()
}

fn level(name: &str) -> Option<Level> {
    match name.to_lowercase().as_str() {
        "none" => None,
        "debug" => Some(Level::DEBUG),
        "info" => Some(Level::INFO),
        "warn" => Some(Level::WARN),
        "error" => Some(Level::ERROR),
        other => panic!("no level {other}"),
    }
}

fn change(word: &str) -> (ConfChangeType, u64) {
    let kind = match &word[..1] {
        "v" => ConfChangeType::ConfChangeAddNode,
        "l" => ConfChangeType::ConfChangeAddLearnerNode,
        "r" => ConfChangeType::ConfChangeRemoveNode,
        "u" => ConfChangeType::ConfChangeUpdateNode,
        other => panic!("no change {other}"),
    };
    (kind, word[1..].parse().unwrap())
}

fn config(case: &Case, id: NodeId, is_async: bool) -> Config {
    let mut config = Config::new(id, id.0);
    config.election_ticks = ELECTION_TICKS;
    let limits = &mut config.limits;
    limits.append_bytes_max = usize::MAX;
    limits.uncommitted_bytes_max = usize::MAX;
    limits.log_window_bytes_max = usize::MAX;
    limits.inflight.bytes = usize::MAX;
    limits.inflight.count = case.value("inflight").unwrap_or(usize::MAX);
    let committed = case.value("max-committed-size-per-ready").unwrap_or(usize::MAX);
    (limits.committed_bytes_max, limits.applying_bytes_max) = (committed, committed);
    let flag = |key: &str| case.value(key).unwrap_or(false);
    config.rules.applies_unpersisted = !is_async;
    config.rules.pre_vote = flag("prevote");
    config.rules.check_quorum = flag("checkquorum");
    config.rules.validates_conf_changes = !flag("disable-conf-change-validation");
    config.rules.steps_down_on_removal = flag("step-down-on-removal");
    config.rules.read_mode = match case.value::<String>("read-only").as_deref() {
        None | Some("safe") => ReadMode::Quorum,
        Some("lease-based") => ReadMode::Lease,
        Some(other) => panic!("no way to read {other}"),
    };
    config
}

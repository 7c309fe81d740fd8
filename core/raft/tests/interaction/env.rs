//! Nodes whose writes finish at once, and messages that wait until they are delivered.
//!
//! Source of the commands: etcd raft v3.7 rafttest/interaction_env_handler.go.

#![expect(clippy::unwrap_used, reason = "a test's environment")]

use crate::lines::caught;
use bytes::Bytes;
use proto::{ConfState, EntryId, Index, NodeId, Term};
use raft::{ConfChanges, Config, Message, Node, Proposed, Restored};
use script::Case;
use tracing::Level;

pub(crate) struct Env {
    nodes: Vec<Node>,
    messages: Vec<Message>,
    /// The lowest level of log lines that are printed; `None` for no lines.
    level: Option<Level>,
    output: String,
}

impl Default for Env {
    fn default() -> Env {
        Env {
            nodes: Vec::new(),
            messages: Vec::new(),
            level: Some(Level::DEBUG),
            output: String::new(),
        }
    }
}

impl Env {
    pub(crate) fn run(&mut self, case: &Case) -> String {
        self.output.clear();
        match case.command.as_str() {
            "log-level" => self.log_level(&case.word::<String>(0)),
            "add-nodes" => self.add_nodes(case),
            "campaign" => self.on(case, Node::campaign),
            "tick" => self.on(case, Node::tick),
            "propose" => {
                let data: Vec<Bytes> =
                    case.words()[1..].iter().map(|word| Bytes::from(String::from(*word))).collect();
                self.propose(case, |node| node.propose(data));
            }
            "propose-conf-change" => self.propose_conf_change(case),
            "read-index" => {
                let context: u64 = case.word(1);
                self.on(case, |node| node.read_index(context).unwrap());
            }
            "process-ready" => {
                let at = self.node(case);
                self.process_ready(at);
            }
            "stabilize" => self.stabilize(),
            "raft-log" => self.raft_log(case),
            "status" => {
                let at = self.node(case);
                self.output = raft::tracker::describe(self.nodes[at].progress());
            }
            "raft-state" => self.raft_state(),
            other => panic!("{}: no command {other}", case.place()),
        }
        if self.output.is_empty() {
            self.output.push_str("ok\n");
        }
        std::mem::take(&mut self.output)
    }

    fn node(&self, case: &Case) -> usize {
        case.word::<usize>(0) - 1
    }

    fn line(&mut self, indent: &str, line: &str) {
        self.output.push_str(indent);
        self.output.push_str(line);
        self.output.push('\n');
    }

    /// Runs `work` on a node and records its log lines.
    fn with<T>(&mut self, at: usize, indent: &str, work: impl FnOnce(&mut Node) -> T) -> T {
        let node = &mut self.nodes[at];
        let (result, lines) = caught(self.level, || work(node));
        node.check();
        for line in lines {
            self.line(indent, &line);
        }
        result
    }

    fn on(&mut self, case: &Case, work: impl FnOnce(&mut Node)) {
        let at = self.node(case);
        self.with(at, "", work);
    }

    fn log_level(&mut self, level: &str) {
        self.level = match level {
            "none" => None,
            "debug" => Some(Level::DEBUG),
            "info" => Some(Level::INFO),
            "warn" => Some(Level::WARN),
            "error" => Some(Level::ERROR),
            other => panic!("no level {other}"),
        };
    }

    fn add_nodes(&mut self, case: &Case) {
        let ids = |key: &str| case.values(key).into_iter().map(NodeId).collect();
        let snapshot =
            EntryId { term: Term(1), index: Index(case.value("index").unwrap_or_default()) };
        let conf_state =
            ConfState { voters: ids("voters"), learners: ids("learners"), ..ConfState::default() };
        for _ in 0..case.word(0) {
            let id = NodeId(self.nodes.len() as u64 + 1);
            let mut config = Config::new(id, id.0);
            config.election_ticks = 3;
            config.writes_max = usize::MAX;
            let restored = Restored {
                conf_state: conf_state.clone(),
                snapshot,
                applied: snapshot.index,
                ..Restored::default()
            };
            let (node, lines) = caught(self.level, || Node::new(config, restored).unwrap());
            self.nodes.push(node);
            for line in lines {
                self.line("", &line);
            }
        }
    }

    fn propose(
        &mut self,
        case: &Case,
        work: impl FnOnce(&mut Node) -> Result<Proposed, raft::DroppedRequest>,
    ) {
        let at = self.node(case);
        if let Err(dropped) = self.with(at, "", work) {
            self.line("", &dropped.to_string());
        }
    }

    /// Example: `propose-conf-change 1 transition=explicit` with `v2 l3` as input.
    fn propose_conf_change(&mut self, case: &Case) {
        use proto::raftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};
        let transition = match case.value::<String>("transition").as_deref() {
            None | Some("auto") => ConfChangeTransition::Auto,
            Some("implicit") => ConfChangeTransition::JointImplicit,
            Some("explicit") => ConfChangeTransition::JointExplicit,
            Some(other) => panic!("no transition {other}"),
        };
        let change = |word: &str| {
            let kind = match &word[..1] {
                "v" => ConfChangeType::ConfChangeAddNode,
                "l" => ConfChangeType::ConfChangeAddLearnerNode,
                "r" => ConfChangeType::ConfChangeRemoveNode,
                "u" => ConfChangeType::ConfChangeUpdateNode,
                other => panic!("no change {other}"),
            };
            ConfChangeSingle {
                r#type: Some(kind.into()),
                node_id: Some(word[1..].parse().unwrap()),
            }
        };
        let changes = ConfChangeV2 {
            transition: Some(transition.into()),
            changes: case.input.split_whitespace().map(change).collect(),
            context: None,
        };
        self.propose(case, |node| node.propose_conf_changes(&changes));
    }

    /// Carries out one Ready: first the write, then the committed entries.
    fn process_ready(&mut self, at: usize) {
        let ready = self.with(at, "  ", Node::ready);
        for line in ready.to_string().lines() {
            self.line("  ", line);
        }
        self.messages.extend(ready.messages);
        for entry in &ready.committed {
            if let Some(changes) = ConfChanges::of(entry).unwrap() {
                self.with(at, "  ", |node| node.apply_conf_change(&changes).unwrap());
            }
        }
        if let Some(receipt) = ready.receipt {
            self.with(at, "  ", |node| node.durable(receipt));
        }
        if let Some(last) = ready.committed.last() {
            self.with(at, "  ", |node| node.applied(last.index));
        }
    }

    fn stabilize(&mut self) {
        loop {
            let mut idle = true;
            for at in 0..self.nodes.len() {
                if self.nodes[at].has_ready() {
                    idle = false;
                    self.line("", &format!("> {} handling Ready", at + 1));
                    self.process_ready(at);
                }
            }
            for at in 0..self.nodes.len() {
                let id = self.nodes[at].id();
                let (own, others) =
                    std::mem::take(&mut self.messages).into_iter().partition(|m| m.to == id);
                let own: Vec<Message> = own;
                self.messages = others;
                if own.is_empty() {
                    continue;
                }
                idle = false;
                self.line("", &format!("> {} receiving messages", at + 1));
                for message in own {
                    self.line("  ", &message.to_string());
                    self.with(at, "  ", |node| node.step(message).unwrap());
                }
            }
            if idle {
                return;
            }
        }
    }

    fn raft_log(&mut self, case: &Case) {
        let at = self.node(case);
        let node = &self.nodes[at];
        let entries = node.entries(node.first_index(), usize::MAX);
        if entries.is_empty() {
            let text = format!(
                "log is empty: first index={}, last index={}",
                node.first_index(),
                node.last().index
            );
            return self.line("", &text);
        }
        for entry in entries {
            self.line("", &raft::describe::entry(&entry));
        }
    }

    fn raft_state(&mut self) {
        for at in 0..self.nodes.len() {
            let node = &self.nodes[at];
            let votes = node.conf_state().voters.contains(&node.id());
            let kind = if votes { "(Voter)" } else { "(Non-Voter)" };
            let text = format!(
                "{}: {} {kind} Term:{} Lead:{}",
                node.id(),
                node.role(),
                node.term(),
                node.leader()
            );
            self.line("", &text);
        }
    }
}

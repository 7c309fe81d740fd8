//! The nodes, the messages between them, and the threads that write and apply.
//!
//! Source: etcd raft v3.7 rafttest/interaction_env.go and its handlers.

use crate::lines::caught;
use crate::member::Member;
use crate::text;
use proto::raftpb::MessageType;
use proto::{Entry, NodeId};
use raft::{Error, Message, Node};
use tracing::Level;

/// A message that is not delivered yet.
pub(crate) enum Mail {
    /// Of a node to another one, or to itself.
    Message(Message),
    /// Of the apply thread of this node.
    Applied(NodeId, Vec<Entry>),
}

impl Mail {
    fn to(&self) -> NodeId {
        match self {
            Mail::Message(message) => message.to,
            Mail::Applied(to, _) => *to,
        }
    }

    /// True if it does not go through the network.
    fn is_local(&self) -> bool {
        match self {
            Mail::Message(message) => is_own(message),
            Mail::Applied(..) => true,
        }
    }

    fn is(&self, kind: MessageType) -> bool {
        matches!(self, Mail::Message(message) if message.body.kind() == kind)
    }
}

impl std::fmt::Display for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Mail::Message(message) => write!(f, "{message}"),
            Mail::Applied(id, entries) => f.write_str(&text::apply_response(*id, entries, "")),
        }
    }
}

fn is_own(message: &Message) -> bool {
    message.from == message.to || matches!(message.body, raft::Body::Stored { .. })
}

pub(crate) struct Env {
    pub(crate) members: Vec<Member>,
    pub(crate) mail: Vec<Mail>,
    /// The lowest level of log lines that are printed; `None` if nothing at all is printed.
    pub(crate) level: Option<Level>,
    output: String,
}

impl Default for Env {
    fn default() -> Env {
        Env {
            members: Vec::new(),
            mail: Vec::new(),
            level: Some(Level::DEBUG),
            output: String::new(),
        }
    }
}

impl Env {
    /// Prints text, which may have several lines.
    pub(crate) fn print(&mut self, text: &str) {
        if self.level.is_some() {
            self.output.push_str(text.trim_end_matches('\n'));
            self.output.push('\n');
        }
    }

    pub(crate) fn take_output(&mut self) -> String {
        std::mem::take(&mut self.output)
    }

    /// Prints what `work` prints, two columns to the right.
    pub(crate) fn indented(&mut self, work: impl FnOnce(&mut Env)) {
        let before = self.take_output();
        work(self);
        let inner = std::mem::replace(&mut self.output, before);
        for line in inner.lines() {
            self.print(&format!("  {line}"));
        }
    }

    /// Runs `work` on a node and prints its log lines.
    pub(crate) fn with<T>(&mut self, at: usize, work: impl FnOnce(&mut Member) -> T) -> T {
        let member = &mut self.members[at];
        let (result, lines) = caught(self.level, || work(member));
        member.node.check();
        for line in lines {
            self.print(&line);
        }
        result
    }

    pub(crate) fn on(&mut self, at: usize, work: impl FnOnce(&mut Node)) {
        self.with(at, |member| work(&mut member.node));
    }

    /// Hands out and prints a Ready. Without asynchronous writes it is also carried out.
    pub(crate) fn process_ready(&mut self, at: usize) {
        let ready = self.with(at, |member| member.node.ready(true));
        let (id, is_async) = (self.members[at].node.id(), self.members[at].is_async);
        let text = text::ready(id, &ready, is_async, self.members[at].hard);
        self.print(&text);
        let write = ready.write.unwrap_or_default();
        self.members[at].hard = write.hard_state.unwrap_or(self.members[at].hard);
        let requests = write.after.iter().filter(|message| text::is_request(message)).cloned();
        let messages: Vec<Message> = ready.messages.into_iter().chain(requests).collect();
        self.mail.extend(messages.into_iter().map(Mail::Message));
        if is_async {
            let has_work = write.must_sync
                || write.hard_state.is_some()
                || !text::responses(&write).is_empty();
            let member = &mut self.members[at];
            member.append_work.extend(has_work.then_some(write));
            member.apply_work.extend(Some(ready.committed).filter(|batch| !batch.is_empty()));
            return;
        }
        self.members[at].append(&write);
        for entry in &ready.committed {
            self.with(at, |member| member.apply(entry));
        }
        let (own, others): (Vec<Message>, Vec<Message>) =
            text::responses(&write).into_iter().partition(|message| message.to == id);
        self.mail.extend(others.into_iter().map(Mail::Message));
        for message in own {
            // A node that was removed does not count its own responses.
            self.with(at, |member| member.node.step_own(message)).ok();
        }
        if let Some(last) = ready.committed.last() {
            self.on(at, |node| node.applied(last.index));
        }
    }

    /// Carries out the next work of the append thread.
    pub(crate) fn process_append(&mut self, at: usize) {
        let Some(write) = self.members[at].append_work.pop_front() else {
            return self.print("no append work to perform");
        };
        let id = self.members[at].node.id();
        self.print("Processing:");
        self.print(&text::append_work(id, &write, false));
        self.members[at].append(&write);
        self.print("Responses:");
        for message in text::responses(&write) {
            self.print(&message.to_string());
            self.mail.push(Mail::Message(message));
        }
    }

    /// Carries out the next work of the apply thread.
    pub(crate) fn process_apply(&mut self, at: usize) {
        let Some(entries) = self.members[at].apply_work.pop_front() else {
            return self.print("no apply work to perform");
        };
        let id = self.members[at].node.id();
        self.print("Processing:");
        self.print(&text::apply_work(id, &entries, false));
        for entry in &entries {
            self.with(at, |member| member.apply(entry));
        }
        self.print("Responses:");
        let mail = Mail::Applied(id, entries);
        self.print(&mail.to_string());
        self.mail.push(mail);
    }

    /// Delivers or drops the messages to a node. Returns false if there are none.
    pub(crate) fn deliver(&mut self, to: NodeId, kind: Option<MessageType>, drop: bool) -> bool {
        let is_chosen = |mail: &mut Mail| {
            mail.to() == to && !(drop && mail.is_local()) && kind.is_none_or(|kind| mail.is(kind))
        };
        let chosen: Vec<Mail> = self.mail.extract_if(.., is_chosen).collect();
        let found = !chosen.is_empty();
        for mail in chosen {
            let prefix = if drop { "dropped: " } else { "" };
            self.print(&format!("{prefix}{mail}"));
            if !drop {
                self.receive(mail);
            }
        }
        found
    }

    fn receive(&mut self, mail: Mail) {
        let at = usize::try_from(mail.to().0).expect("a small id") - 1;
        match mail {
            Mail::Applied(_, entries) => {
                let last = entries.last().expect("a batch has entries").index;
                self.on(at, |node| node.applied(last));
            }
            Mail::Message(message) => {
                let result = self.with(at, |member| {
                    if is_own(&message) {
                        member.node.step_own(message)
                    } else {
                        member.node.step(message)
                    }
                });
                match result {
                    Ok(()) => {}
                    Err(Error::UnknownPeer { .. }) => {
                        self.print("raft: cannot step as peer not found");
                    }
                    Err(error) => self.print(&error.to_string()),
                }
            }
        }
    }

    /// Does all work of these nodes until there is none.
    pub(crate) fn stabilize(&mut self, nodes: &[usize]) {
        loop {
            let mut idle = true;
            for at in nodes.iter().copied() {
                if self.members[at].node.has_ready(true) {
                    idle = false;
                    self.print(&format!("> {} handling Ready", at + 1));
                    self.indented(|env| env.process_ready(at));
                }
            }
            for at in nodes.iter().copied() {
                let id = self.members[at].node.id();
                if self.mail.iter().any(|mail| mail.to() == id) {
                    idle = false;
                    self.print(&format!("> {} receiving messages", at + 1));
                    self.indented(|env| {
                        env.deliver(id, None, false);
                    });
                }
            }
            for at in nodes.iter().copied() {
                if !self.members[at].append_work.is_empty() {
                    idle = false;
                    self.print(&format!("> {} processing append thread", at + 1));
                }
                while !self.members[at].append_work.is_empty() {
                    self.indented(|env| env.process_append(at));
                }
            }
            for at in nodes.iter().copied() {
                if !self.members[at].apply_work.is_empty() {
                    idle = false;
                    self.print(&format!("> {} processing apply thread", at + 1));
                }
                while !self.members[at].apply_work.is_empty() {
                    self.indented(|env| env.process_apply(at));
                }
            }
            if idle {
                return;
            }
        }
    }
}

//! The operator of the cluster. It adds, promotes, updates and removes members during the faults,
//! and replaces members whose disks are lost, with calls to the members. It sees the member list of
//! the log, which is what a linearizable member list would return.
//!
//! A call without an answer may take effect later. So each step first looks at the member list. A
//! member whose addition takes effect late gets its host, or is removed again.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each function is given the kinds of faults that it handles"
)]

use super::clock::{MS, SECOND};
use super::event::Event;
use super::fault::FaultKind;
use super::gateway::{MemberCall, Request};
use super::host::{Host, Seat};
use super::serve::{CLIENT_BITS, OPERATOR};
use super::setup::peer_urls;
use super::task::{Aim, Step};
use super::world::{BEGIN_UNIX_MS, World};
use cluster::{Member, Reach};
use executor::Founding;
use proto::NodeId;
use std::time::Duration;
use vfs::SimDisk;
use wal::Metadata;

/// The maximum number of voters.
const VOTERS_MAX: usize = 7;
/// The operator gives a step up after this many calls, if it can.
const ATTEMPTS_MAX: u32 = 60;
/// How long it waits for an answer.
const PATIENCE: u64 = 7 * SECOND;
/// A call without an answer may still take effect for this long.
const UNDECIDED: u64 = 120 * SECOND;
/// The time between a member's removal and the end of its process, as in `embed`.
const REMOVAL_DELAY: u64 = SECOND;

/// How a step continues.
enum Next {
    /// It is done.
    Reached,
    /// It cannot be done any more.
    Void,
    /// Something must happen first.
    Wait,
    Call(MemberCall),
}

impl World {
    /// The hosts of members with intact disks.
    pub(crate) fn members(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|at| self.hosts[*at].is_member()).collect()
    }

    /// The hosts of voters with intact disks.
    pub(crate) fn voters(&self) -> Vec<usize> {
        let is_voter = |at: &usize| {
            let Seat::Member(id) = self.hosts[*at].life.seat else { return false };
            let listed = self.checks.oracle.roster.members();
            // The first members are not listed until their first entries are applied.
            listed.get(&id).is_none_or(|member| !member.is_learner)
        };
        self.members().into_iter().filter(is_voter).collect()
    }

    pub(crate) fn any_voter(&mut self) -> Option<usize> {
        let voters = self.voters();
        (!voters.is_empty()).then(|| voters[self.random.index(voters.len())])
    }

    /// Whether all listed members live on a host, no others do, and each has started.
    pub(crate) fn is_as_listed(&self) -> bool {
        let listed = self.checks.oracle.roster.members();
        let lives = |id: &NodeId| self.place_of(*id).is_some_and(|at| self.hosts[at].is_running());
        listed.keys().all(lives) && self.members().len() == listed.len()
    }

    /// The host of a member, if its disk is intact.
    fn place_of(&self, id: NodeId) -> Option<usize> {
        (0..self.hosts.len()).find(|at| self.hosts[*at].life.seat == Seat::Member(id))
    }

    fn member_at(&self, at: usize) -> Option<NodeId> {
        match self.hosts[at].life.seat {
            Seat::Member(id) => Some(id),
            Seat::Vacant | Seat::Broken(_) | Seat::Removed(_) => None,
        }
    }

    /// Whether the process of a host may start. A removed member is started again until the others
    /// know of the removal, since a leader that removed itself may have been the only one that
    /// knew.
    pub(crate) fn may_start(&self, at: usize) -> bool {
        match self.hosts[at].life.seat {
            Seat::Vacant | Seat::Broken(_) => false,
            Seat::Member(_) => true,
            Seat::Removed(id) => !self.is_known_removed(id),
        }
    }

    /// Whether this is the host of a removed member, and no running member knows of the removal.
    pub(crate) fn is_stranding(&self, at: usize) -> bool {
        let Seat::Removed(id) = self.hosts[at].life.seat else { return false };
        let members = self.hosts.iter().filter(|host| host.is_member());
        let mut clusters = members.filter_map(Host::cluster).peekable();
        clusters.peek().is_some() && clusters.all(|cluster| !cluster.is_removed(id))
    }

    /// Whether all running members know that this one was removed.
    fn is_known_removed(&self, id: NodeId) -> bool {
        let members = self.hosts.iter().filter(|host| host.is_member());
        let mut clusters = members.filter_map(Host::cluster).peekable();
        clusters.peek().is_some() && clusters.all(|cluster| cluster.is_removed(id))
    }

    /// Ends a member soon after it has learned that it was removed.
    pub(crate) fn may_leave(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let Some(process) = host.process.as_ref().filter(|_| !host.life.is_leaving) else { return };
        if process.gateway.moment.published.cluster.is_removed(process.id) {
            host.life.is_leaving = true;
            let process = host.number;
            self.agenda.after(REMOVAL_DELAY, Event::Leave { at, process });
        }
    }

    pub(crate) fn leave(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let Some(process) = &host.process else { return };
        host.life.seat = Seat::Removed(process.id);
        self.tell(|| format!("m{at} was removed"));
        self.stop(at, false);
    }

    /// The members that a member reaches, and for how long it has reached them.
    pub(crate) fn reach(&self, at: usize) -> Reach {
        let now = self.now();
        let mut reach = Reach::default();
        let Some(process) = &self.hosts[at].process else { return reach };
        reach.own = process.id;
        for (id, other) in &self.places {
            let host = &self.hosts[*other];
            let runs = *other != at && host.is_running();
            let Some(since) = self.network.connected_since(at, *other).filter(|_| runs) else {
                continue;
            };
            let since = since.max(host.life.started).max(self.hosts[at].life.started);
            reach.others.insert(*id, Duration::from_micros(now - since));
        }
        reach
    }

    /// Lets the operator look at the members and make its next call.
    pub(crate) fn operate(&mut self) {
        self.follow_roster();
        if self.nemesis.operator.call.is_none() {
            match self.nemesis.operator.steps.front().cloned() {
                Some(step) => self.go_on(&step),
                None => self.remove_stray(),
            }
        }
        let pause = 100 * MS + self.random.below(SECOND);
        self.agenda.after(pause, Event::Operate);
    }

    /// A removed member connects to another member, which may tell it of the removal.
    fn tell_removed(&mut self, at: usize) {
        let Seat::Removed(id) = self.hosts[at].life.seat else { return };
        let other = self.random.index(self.hosts.len());
        let knows = self.hosts[other].cluster().is_some_and(|cluster| cluster.is_removed(id));
        let is_reached = other != at && self.hosts[other].is_running();
        if knows && is_reached && self.network.connected_since(at, other).is_some() {
            let process = self.hosts[at].number;
            let latency = self.network.client_latency();
            self.agenda.after(latency, Event::Gone { at, process });
        }
    }

    /// Frees the hosts of removed members, and assigns hosts to added ones.
    fn follow_roster(&mut self) {
        for at in 0..self.hosts.len() {
            let roster = &self.checks.oracle.roster;
            if let Seat::Member(id) = self.hosts[at].life.seat
                && roster.is_removed(id)
            {
                self.hosts[at].life.seat = Seat::Removed(id);
            }
            self.tell_removed(at);
            // A host is freed only when all running members know of the removal: until then, a
            // removed member may be started again.
            if let Seat::Removed(id) | Seat::Broken(id) = self.hosts[at].life.seat
                && self.hosts[at].process.is_none()
                && self.is_known_removed(id)
            {
                self.hosts[at].life.seat = Seat::Vacant;
                self.places.remove(&id);
            }
        }
        let asked: Vec<_> =
            self.nemesis.operator.asked.iter().map(|(id, it)| (*id, it.0)).collect();
        for (id, at) in asked {
            let roster = &self.checks.oracle.roster;
            let is_listed = roster.members().contains_key(&id);
            if roster.is_removed(id) {
                self.nemesis.operator.asked.remove(&id);
            } else if is_listed && self.hosts[at].life.seat == Seat::Vacant {
                self.nemesis.operator.asked.remove(&id);
                self.move_in(at, id);
            }
        }
    }

    /// Assigns a host with an empty disk to an added member.
    fn move_in(&mut self, at: usize, id: NodeId) {
        self.tell(|| format!("m{at} becomes the host of {id:x}"));
        let disk = SimDisk::new(self.random.draw());
        let cluster = self.setup.cluster;
        let host = &mut self.hosts[at];
        host.life.seat = Seat::Member(id);
        host.disk = disk;
        host.life.failed_starts = 0;
        host.life.damage = None;
        host.life.was_damaged = false;
        host.options.founding =
            Some(Founding::Join { metadata: Metadata { node: id, cluster }, version: None });
        self.places.insert(id, at);
        let delay = 10 * MS + self.random.below(2 * SECOND);
        self.agenda.after(delay, Event::Boot { at });
    }

    fn go_on(&mut self, step: &Step) {
        match self.next_of(&step.aim) {
            Next::Wait => {}
            Next::Void => self.nemesis.operator.steps.clear(),
            Next::Reached => {
                if let Some(kind) = step.kind {
                    self.tell(|| format!("done: {}", kind.name()));
                    self.counts.faults.note(kind);
                }
                self.nemesis.operator.steps.pop_front();
                self.nemesis.operator.attempts = 0;
            }
            Next::Call(_)
                if self.nemesis.operator.attempts > ATTEMPTS_MAX
                    && !matches!(step.aim, Aim::Leave(_)) =>
            {
                self.nemesis.operator.steps.clear();
            }
            Next::Call(call) => self.ask(call),
        }
    }

    fn next_of(&mut self, aim: &Aim) -> Next {
        let listed = self.checks.oracle.roster.members();
        match aim {
            Aim::Join { at, as_learner } => match self.hosts[*at].life.seat {
                Seat::Member(id) if listed.contains_key(&id) => {
                    if self.hosts[*at].life.started > 0 { Next::Reached } else { Next::Wait }
                }
                Seat::Member(_) => Next::Void,
                Seat::Broken(_) | Seat::Removed(_) => Next::Wait,
                Seat::Vacant => self.next_of_join(*at, *as_learner),
            },
            Aim::VoteAt(at) => match self.member_at(*at) {
                Some(id) => self.next_of(&Aim::Vote(id)),
                None => Next::Void,
            },
            Aim::Vote(id) => match listed.get(id) {
                None => Next::Void,
                Some(member) if member.is_learner => Next::Call(MemberCall::Promote(*id)),
                Some(_) => Next::Reached,
            },
            Aim::Leave(id) if listed.contains_key(id) => Next::Call(MemberCall::Remove(*id)),
            Aim::Leave(_) => Next::Reached,
            Aim::Move(id, urls) => match listed.get(id) {
                None => Next::Void,
                Some(member) if member.peer_urls == *urls => Next::Reached,
                Some(_) => Next::Call(MemberCall::Update(*id, urls.clone())),
            },
        }
    }

    fn next_of_join(&mut self, at: usize, is_learner: bool) -> Next {
        let roster = &self.checks.oracle.roster;
        if is_learner && roster.learner().is_some() {
            return Next::Void;
        }
        let voters = roster.voters();
        // A single voter may always grow.
        let may_grow = voters == 1 || (voters < VOTERS_MAX && self.has_quorum(1, 0));
        if !is_learner && !may_grow {
            return Next::Void;
        }
        let peer_urls = peer_urls(at);
        let id = self.new_id(&peer_urls);
        self.nemesis.operator.asked.insert(id, (at, self.now()));
        Next::Call(MemberCall::Add(Member { id, peer_urls, is_learner, ..Member::default() }))
    }

    /// A member id as `api` computes it. Request ids contain its last two bytes.
    fn new_id(&self, peer_urls: &[String]) -> NodeId {
        let unix_s = (BEGIN_UNIX_MS / 1_000 + self.now() / SECOND).cast_signed();
        let taken: Vec<u64> = self.places.keys().map(|id| id.0 & 0xffff).collect();
        let ids = (0..).map(|later| cluster::member_id(peer_urls, "", Some(unix_s + later)));
        let is_free = |id: &NodeId| {
            !taken.contains(&(id.0 & 0xffff)) && !self.nemesis.operator.asked.contains_key(id)
        };
        ids.into_iter().find(is_free).unwrap_or(NodeId::NONE)
    }

    /// Whether the voters still have a quorum with `more` further voters and `lost` lost disks,
    /// even if all calls without an answer take effect.
    fn has_quorum(&self, more: usize, lost: usize) -> bool {
        let now = self.now();
        let is_undecided = |asked: &&(usize, u64)| asked.1 + UNDECIDED > now;
        let undecided = self.nemesis.operator.asked.values().filter(is_undecided).count();
        let voters = self.checks.oracle.roster.voters() + undecided + more;
        self.voters().len() - lost > voters / 2
    }

    /// Removes a member whose addition took effect late, when its host was given to another one.
    fn remove_stray(&mut self) {
        let listed = self.checks.oracle.roster.members();
        let lives = |id: &NodeId| self.hosts.iter().any(|host| host.life.seat == Seat::Member(*id));
        let asked = &self.nemesis.operator.asked;
        let waits = |id: &NodeId| {
            asked
                .get(id)
                .is_some_and(|(at, _)| !matches!(self.hosts[*at].life.seat, Seat::Member(_)))
        };
        let stray = listed.keys().find(|id| !lives(id) && !waits(id));
        if let Some(id) = stray.copied() {
            self.nemesis.operator.begin([(Aim::Leave(id), None)]);
        }
    }

    fn ask(&mut self, call: MemberCall) {
        let leader = self.leader();
        let voters = self.voters();
        let at = match leader {
            Some(leader) if self.random.chance(128) => leader,
            Some(_) | None if voters.is_empty() => return,
            Some(_) | None => voters[self.random.index(voters.len())],
        };
        self.tell(|| format!("the operator asks m{at}: {call:?}"));
        self.people.calls += 1;
        let number = (self.people.calls << CLIENT_BITS) | OPERATOR as u64;
        self.nemesis.operator.call = Some(number);
        self.nemesis.operator.attempts += 1;
        let process = self.hosts[at].number;
        let latency = self.network.client_latency();
        let request = Request::Change(Box::new(call), Reach::default());
        self.agenda.after(latency, Event::Request { at, process, call: number, request });
        self.agenda.after(PATIENCE, Event::GiveUp { call: number });
    }

    /// Called when a call was answered or timed out. Its effect is in the log.
    pub(crate) fn operator_is_answered(&mut self, call: u64) {
        self.nemesis.operator.call.take_if(|under_way| *under_way == call);
    }

    /// Gives the operator a task, if it is idle.
    pub(crate) fn begin_task(&mut self, kind: FaultKind) {
        if !self.nemesis.operator.is_idle() || !self.is_quiet() {
            return;
        }
        let members = self.members();
        let voters = self.voters();
        if members.is_empty() || voters.is_empty() {
            return;
        }
        let any = members[self.random.index(members.len())];
        let vacant = (0..self.hosts.len()).find(|at| self.hosts[*at].life.seat == Seat::Vacant);
        let learner = self.checks.oracle.roster.learner();
        self.tell(|| format!("task: {}", kind.name()));
        match kind {
            FaultKind::MemberAdd | FaultKind::LearnerAdd => {
                let as_learner = kind == FaultKind::LearnerAdd;
                let Some(at) = vacant else { return };
                self.nemesis.operator.begin([(Aim::Join { at, as_learner }, Some(kind))]);
            }
            FaultKind::LearnerPromote => match (learner, vacant) {
                (Some(id), _) => self.nemesis.operator.begin([(Aim::Vote(id), Some(kind))]),
                (None, Some(at)) => self.nemesis.operator.begin([
                    (Aim::Join { at, as_learner: true }, None),
                    (Aim::VoteAt(at), Some(kind)),
                ]),
                (None, None) => {}
            },
            FaultKind::MemberRemove | FaultKind::LeaderRemove => {
                let at = if kind == FaultKind::LeaderRemove { self.leader() } else { Some(any) };
                let Some(id) = at.and_then(|at| self.member_at(at)) else { return };
                if learner == Some(id) || voters.len() > 1 {
                    self.nemesis.operator.begin([(Aim::Leave(id), Some(kind))]);
                }
            }
            FaultKind::MemberUpdate => {
                let Some(id) = self.member_at(any) else { return };
                let port = 3_000 + self.random.below(1_000);
                let urls = vec![format!("http://host{any}:{port}")];
                self.nemesis.operator.begin([(Aim::Move(id, urls), Some(kind))]);
            }
            FaultKind::LogFlip | FaultKind::DatabaseFlip | FaultKind::SnapFlip => {
                self.flip(any, kind);
            }
            _ => self.lose_disk(any),
        }
    }

    /// Whether all members are on their hosts, with intact disks.
    fn is_quiet(&self) -> bool {
        if self.hosts.iter().any(|host| host.life.damage.is_some()) {
            return false;
        }
        let listed = self.checks.oracle.roster.members();
        let lives = |id: &NodeId| self.place_of(*id).is_some();
        listed.keys().all(lives) && self.members().len() == listed.len()
    }

    /// Loses the disk of a member, which the operator then replaces.
    fn lose_disk(&mut self, at: usize) {
        if self.may_break(at) {
            self.break_member(at, Some(FaultKind::LostDisk));
        }
    }

    /// Whether the cluster can continue without this member until it is replaced. Only one member
    /// may break at a time, so that a quorum of intact disks has everything that was acknowledged.
    pub(crate) fn may_break(&self, at: usize) -> bool {
        let Some(id) = self.member_at(at) else { return false };
        let is_learner = self.checks.oracle.roster.learner() == Some(id);
        let is_idle = self.nemesis.operator.is_idle() && self.is_quiet();
        is_idle && self.has_quorum(0, usize::from(!is_learner))
    }

    /// Ends a member whose disk is lost or damaged, and gives the operator the task to replace it.
    pub(crate) fn break_member(&mut self, at: usize, kind: Option<FaultKind>) {
        let Some(id) = self.member_at(at) else { return };
        let is_learner = self.checks.oracle.roster.learner() == Some(id);
        self.hosts[at].life.seat = Seat::Broken(id);
        self.stop(at, false);
        let as_learner = is_learner || self.random.chance(128);
        let mut steps = vec![(Aim::Leave(id), None), (Aim::Join { at, as_learner }, kind)];
        if as_learner && !is_learner {
            steps.push((Aim::VoteAt(at), None));
        }
        if self.nemesis.operator.steps.is_empty() {
            self.nemesis.operator.begin(steps);
        } else {
            self.nemesis.operator.then(steps);
        }
    }
}

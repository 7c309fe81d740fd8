//! The world: hosts, network, clients, and their events, one after the other. Processes are in
//! `process`, the handling of clients in `serve`, faults in `nemesis`, and the end of a run in
//! `ending`.

use super::active::Nemesis;
use super::clients::{Client, Role};
use super::clock::{Agenda, MS, MemberClock, SECOND};
use super::event::Event;
use super::fault::FaultKind;
use super::host::{Host, Seat};
use super::lease_check::CheckedLeases;
use super::network::Network;
use super::oracle::Oracle;
use super::process::{Machine, Outside, Process};
use super::report::Counts;
use super::setup::{ClusterPlan, Setup};
use super::watch_check::CheckedWatch;
use crate::kv::calls::KvHistory;
use cluster::SERVER_MINOR;
use executor::ConsensusInput;
use proto::NodeId;
use raft::{Invariants, Node};
use random::Random;
use std::collections::BTreeMap;
use std::sync::Arc;
use vfs::Vfs;

/// The wall-clock time when the world begins, in milliseconds since 1970.
pub(crate) const BEGIN_UNIX_MS: u64 = 1_700_000_000_000;
/// How many starts in a row may fail on a disk with faults.
const FAILED_STARTS_MAX: u32 = 200;

/// A client's watch.
#[derive(Debug)]
pub(crate) struct WatchClient {
    pub(crate) log: CheckedWatch,
    pub(crate) from: &'static str,
    pub(crate) end: &'static str,
    pub(crate) prev_kv: bool,
    /// The host that it is connected to, and the number of the connection.
    pub(crate) connected: Option<(usize, u64)>,
    pub(crate) last_arrival: u64,
}

/// The models and checks.
#[derive(Debug)]
pub(crate) struct Checks {
    pub(crate) oracle: Oracle,
    pub(crate) invariants: Invariants,
    pub(crate) leases: CheckedLeases,
    pub(crate) history: KvHistory,
    /// The newest revision in an answer to any client.
    pub(crate) acknowledged: i64,
}

/// The clients.
#[derive(Debug)]
pub(crate) struct People {
    pub(crate) clients: Vec<Client>,
    pub(crate) watches: Vec<WatchClient>,
    /// The number of the last call or connection.
    pub(crate) calls: u64,
    /// Clients make no further calls.
    pub(crate) resting: bool,
}

/// The world.
pub(crate) struct World {
    pub(crate) plan: ClusterPlan,
    pub(crate) setup: Setup,
    pub(crate) random: Random,
    pub(crate) agenda: Agenda<Event>,
    pub(crate) network: Network,
    pub(crate) hosts: Vec<Host>,
    /// The hosts of the members.
    pub(crate) places: BTreeMap<NodeId, usize>,
    pub(crate) people: People,
    pub(crate) checks: Checks,
    pub(crate) counts: Counts,
    pub(crate) nemesis: Nemesis,
    /// A hash of all events so far.
    pub(crate) trace: u64,
}

/// The ranges of the watches.
const WATCHED: [(&str, &str); 4] =
    [("k/", "k0"), ("k/03", "k/09"), ("r/", "r0"), ("lease/", "lease0")];

impl World {
    /// A new world, in which all members are about to start.
    pub(crate) fn new(plan: &ClusterPlan) -> World {
        let mut random = Random::new(plan.seed ^ 0x6d65_6d62_6572_7300);
        let setup = Setup::of(plan, &mut random);
        let (size, places) = (setup.first.len(), setup.options.len());
        let seats = setup.first.iter().map(|id| Seat::Member(*id));
        let seats = seats.chain(std::iter::repeat(Seat::Vacant));
        let hosts = setup.options.iter().zip(seats);
        let hosts = hosts.map(|(it, seat)| Host::new(seat, it.clone(), &mut random)).collect();
        let client = |number: usize| {
            let role = match number {
                0 => Role::Compactions,
                1 => Role::Leases,
                _ => Role::Keys,
            };
            let random = Random::new(plan.seed).part(100 + number as u64);
            Client::new(role, number % size, setup.think, random)
        };
        let watch = |number: usize| {
            let (from, end) = WATCHED[number % WATCHED.len()];
            let prev_kv = number % 3 == 1;
            let log = CheckedWatch::new(from.into(), end.into(), prev_kv);
            WatchClient { log, from, end, prev_kv, connected: None, last_arrival: 0 }
        };
        let people = People {
            clients: (0..setup.clients).map(client).collect(),
            watches: (0..setup.watches).map(watch).collect(),
            calls: 0,
            resting: false,
        };
        let lease_ttl_s_min = setup.options.first().map_or(1, |it| it.settings.lease_ttl_s_min);
        let checks = Checks {
            oracle: Oracle::new(lease_ttl_s_min),
            invariants: Invariants::default(),
            leases: CheckedLeases::default(),
            history: KvHistory::default(),
            acknowledged: 0,
        };
        let mut world = World {
            network: Network::new(places, Random::new(plan.seed).part(1)),
            plan: plan.clone(),
            setup,
            random,
            agenda: Agenda::new(),
            hosts,
            places: BTreeMap::new(),
            people,
            checks,
            counts: Counts::default(),
            nemesis: Nemesis::default(),
            trace: plan.seed,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for at in 0..self.setup.first.len() {
            let delay = self.random.below(SECOND);
            self.agenda.after(delay, Event::Boot { at });
        }
        if self.setup.is_operated() {
            self.agenda.at(5 * SECOND, Event::Operate);
        }
        for client in 0..self.people.clients.len() {
            let delay = SECOND + self.random.below(2 * SECOND);
            self.agenda.after(delay, Event::Next { client });
        }
        for watch in 0..self.people.watches.len() {
            let delay = 3 * SECOND + self.random.below(10 * SECOND);
            self.agenda.after(delay, Event::WatchConnect { watch, instead: 0 });
        }
        self.agenda.at(5 * SECOND, Event::Fault);
    }

    pub(crate) fn now(&self) -> u64 {
        self.agenda.now()
    }

    /// Prints a line if the run is verbose.
    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.plan.verbose {
            say(self.now(), &what());
        }
    }

    /// Executes the events up to a time.
    ///
    /// # Errors
    /// When a check fails.
    pub(crate) fn run_until(&mut self, end: u64) -> Result<(), String> {
        while self.now() < end {
            self.step()?;
        }
        Ok(())
    }

    /// Executes the next event.
    ///
    /// # Errors
    /// When a check fails.
    pub(crate) fn step(&mut self) -> Result<(), String> {
        let Some(event) = self.agenda.take() else {
            return Err("nothing is left to happen".into());
        };
        self.counts.events += 1;
        let happening = event.trace() ^ self.now().rotate_left(24);
        self.trace = (self.trace ^ happening).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        if let Some((at, process)) = event.place() {
            let host = &mut self.hosts[at];
            if process.is_some_and(|process| process != host.number) {
                return self.reset_sender(event);
            }
            if let Some(held) = &mut host.held {
                held.push(event);
                return Ok(());
            }
            if host.process.is_none() {
                return self.reset_sender(event);
            }
        }
        self.happen(event)
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Work { at, machine, .. } => self.work(at, machine),
            Event::Tick { at, process } => self.tick(at, process),
            Event::Message { at, bytes } => self.message_arrives(at, bytes),
            Event::Unreachable { at, peer, .. } => self.push(at, ConsensusInput::Unreachable(peer)),
            Event::Snapshot { at, from, body } => self.snapshot_arrives(at, from, &body),
            Event::SnapshotSent { at, peer, delivered } => {
                self.push(at, ConsensusInput::SnapshotSent { to: peer, delivered })
            }
            Event::Request { at, call, request, .. } => self.request_arrives(at, call, request),
            Event::Response { call, response } => self.response_arrives(call, response),
            Event::GiveUp { call } => {
                self.give_up(call);
                Ok(())
            }
            Event::Next { client } => {
                self.next_call(client);
                Ok(())
            }
            Event::WatchConnect { watch, instead } => {
                if self.people.watches[watch].connected.map_or(0, |it| it.1) == instead {
                    self.watch_connects(watch);
                }
                Ok(())
            }
            Event::WatchCreate { at, ticket, request, .. } => {
                self.watch_is_created(at, ticket, request)
            }
            Event::WatchProgress { watch, ticket } => self.watch_wants_progress(watch, ticket),
            Event::Watched { ticket, response } => self.watch_takes(ticket, &response),
            Event::Boot { at } => self.boot(at),
            Event::Stop { at, process, power_loss } => {
                let host = &self.hosts[at];
                let has_failed = host.process.as_ref().is_some_and(Process::has_failed);
                if host.number == process && (has_failed || !self.nemesis.is_done) {
                    self.stop(at, power_loss);
                }
                Ok(())
            }
            Event::Resume { at, process } => {
                self.resume(at, process);
                Ok(())
            }
            Event::Leave { at, .. } | Event::Gone { at, .. } => {
                self.leave(at);
                Ok(())
            }
            Event::Operate => {
                self.operate();
                Ok(())
            }
            Event::Fault => {
                self.next_fault();
                Ok(())
            }
            Event::EndFault { kind, number } => {
                self.end_fault(kind, number);
                Ok(())
            }
        }
    }

    fn tick(&mut self, at: usize, process: u32) -> Result<(), String> {
        let now = self.now();
        let host = &mut self.hosts[at];
        let local = host.clock.now(now);
        if let Some(running) = &mut host.process {
            running.tick(local);
            if self.random.chance(6) {
                let of_others = self.places.keys().filter(|id| **id != running.id);
                running.learn_versions(of_others.map(|id| (*id, SERVER_MINOR)).collect());
            }
        }
        let next = host.clock.real(self.setup.tick);
        self.agenda.after(next, Event::Tick { at, process });
        self.after_work(at)
    }

    fn push(&mut self, at: usize, input: ConsensusInput) -> Result<(), String> {
        if let Some(process) = &mut self.hosts[at].process {
            process.push(input);
        }
        self.after_work(at)
    }

    fn work(&mut self, at: usize, machine: Machine) -> Result<(), String> {
        let now = self.now();
        let host = &mut self.hosts[at];
        host.at_work[machine as usize] = None;
        let local = host.clock.now(now);
        let Some(process) = &mut host.process else { return Ok(()) };
        if let Err(why) = process.work(machine, local, self.setup.tick, &mut self.random) {
            return self.process_fails(at, &why);
        }
        if machine == Machine::Consensus {
            self.check_invariants(at);
        } else if machine == Machine::Applier {
            self.may_leave(at);
        }
        self.after_work(at)
    }

    pub(crate) fn node(&self, at: usize) -> Option<&Node> {
        let process = self.hosts[at].process.as_ref()?;
        Some(process.machines.consensus.member().raft())
    }

    fn check_invariants(&mut self, at: usize) {
        let nodes = self.hosts.iter().map(|host| {
            let process = host.process.as_ref()?;
            Some(process.machines.consensus.member().raft())
        });
        let nodes: Vec<Option<&Node>> = nodes.collect();
        let Some(changed) = nodes[at] else { return };
        let others = nodes.iter().flatten().copied().filter(|node| node.id() != changed.id());
        self.checks.invariants.check_changed(changed, others);
        let stamp = changed.term().0 ^ (changed.commit().0 << 20) ^ ((changed.role() as u64) << 60);
        self.trace = self.trace.rotate_left(7) ^ stamp;
    }

    /// Sends the output of a member, and schedules the next work of its machines.
    pub(crate) fn after_work(&mut self, at: usize) -> Result<(), String> {
        let Some(process) = &mut self.hosts[at].process else { return Ok(()) };
        for outside in std::mem::take(&mut process.outside) {
            self.leaves(at, outside)?;
        }
        self.plan_work(at);
        Ok(())
    }

    pub(crate) fn plan_work(&mut self, at: usize) {
        let now = self.now();
        let Host { process, clock, at_work, pace, number, .. } = &mut self.hosts[at];
        let Some(process) = process else { return };
        for machine in Machine::ALL {
            let planned = at_work[machine as usize];
            let has_clock = matches!(machine, Machine::Backend | Machine::Consensus);
            if planned.is_some() && !has_clock {
                continue;
            }
            let Some(delay) = process.due(machine, clock, now) else { continue };
            if planned.is_some_and(|planned| planned <= now + delay) {
                continue;
            }
            let done = now + delay + pace.time_of(machine, now, &mut self.random);
            if planned.is_some_and(|planned| planned <= done) {
                continue;
            }
            at_work[machine as usize] = Some(done);
            self.agenda.at(done, Event::Work { at, process: *number, machine });
        }
    }

    fn leaves(&mut self, at: usize, outside: Outside) -> Result<(), String> {
        let now = self.now();
        match outside {
            Outside::Message(message) => self.send(at, &message),
            Outside::Snapshot(message, file) => self.send_snapshot(at, &message, &file)?,
            Outside::Committed(entries) => {
                for entry in &entries {
                    if let Some(revoked) = self.checks.oracle.committed(entry, now)? {
                        self.checks.leases.revoked(revoked, now)?;
                    }
                }
            }
            Outside::LogRead => self.counts.caught_up.log_reads += 1,
            Outside::Restored(index) => {
                if index > self.checks.oracle.last() {
                    return Err(format!(
                        "a snapshot at entry {index}, which no member has applied"
                    ));
                }
                self.counts.caught_up.snapshots += 1;
                self.counts.faults.note(FaultKind::SnapshotNeeded);
            }
            Outside::Applied(id, result) => self.checks.oracle.check_result(id, &result)?,
            Outside::Answer(answering) => self.answer_leaves(at, answering),
            Outside::Watched(ticket, response) => self.watch_is_sent(at, ticket, response),
        }
        Ok(())
    }

    /// Starts the process of a member.
    fn boot(&mut self, at: usize) -> Result<(), String> {
        let now = self.now();
        let host = &mut self.hosts[at];
        if host.process.is_some() || !self.may_start(at) {
            return Ok(());
        }
        self.counts.revivals += u64::from(self.is_stranding(at));
        let host = &mut self.hosts[at];
        host.number += 1;
        host.life.started = now;
        host.life.is_leaving = false;
        host.clock = MemberClock::starting(now, host.drift);
        host.at_work = [None; Machine::ALL.len()];
        host.held = None;
        self.counts.boots += 1;
        let vfs: Arc<dyn Vfs> = Arc::new(host.disk.clone());
        // Request ids contain this time. Starts of one member are more than a millisecond apart, so
        // no id occurs twice.
        let unix_ms = BEGIN_UNIX_MS + now / MS;
        host.options.seed = self.random.draw();
        match Process::boot(&vfs, &host.options, &self.setup.tuning, unix_ms) {
            Ok(process) => {
                host.life.failed_starts = 0;
                self.places.insert(process.id, at);
                let (number, id) = (host.number, process.id);
                host.process = Some(process);
                let first = self.random.below(self.setup.tick);
                self.agenda.after(first, Event::Tick { at, process: number });
                self.tell(|| format!("m{at} starts as {id:x}"));
                self.starts_damaged(at);
                self.loop_crash(at);
                self.may_leave(at);
                self.check_invariants(at);
                self.after_work(at)
            }
            Err(error) => {
                let why = error.to_string();
                self.start_fails(at, &why)
            }
        }
    }

    /// Handles a failed start. On a disk with faults that is legal, and the start is repeated
    /// without them.
    fn start_fails(&mut self, at: usize, why: &str) -> Result<(), String> {
        self.tell(|| format!("m{at} does not start: {why}"));
        let is_of_disk = is_power_loss(why) || why.contains("os error");
        if !is_of_disk && self.is_found_damaged(at, why) {
            return Ok(());
        }
        let is_stopped = is_power_loss(why);
        let host = &mut self.hosts[at];
        host.life.failed_starts += 1;
        if !(is_stopped || why.contains("os error")) || host.life.failed_starts > FAILED_STARTS_MAX
        {
            return Err(format!("member {at} does not start: {why}"));
        }
        self.note_disk_fault(why);
        self.renew_disk(at, is_stopped);
        let delay = 2 * MS + self.random.below(SECOND);
        self.agenda.after(delay, Event::Boot { at });
        Ok(())
    }

    /// Handles the failure of a machine. The other machines may continue for a moment.
    pub(crate) fn process_fails(&mut self, at: usize, why: &str) -> Result<(), String> {
        self.tell(|| format!("m{at} fails: {why}"));
        if !is_power_loss(why) && !why.contains("os error") && self.is_found_damaged(at, why) {
            return Ok(());
        }
        let is_stopped = is_power_loss(why);
        if !(is_stopped || why.contains("os error")) {
            return Err(format!("member {at} stops: {why}"));
        }
        self.note_disk_fault(why);
        let delay = if is_stopped { 0 } else { self.random.below(5 * MS) };
        let process = self.hosts[at].number;
        self.agenda.after(delay, Event::Stop { at, process, power_loss: is_stopped });
        self.after_work(at)
    }

    /// Counts a fault of a disk by its effect.
    fn note_disk_fault(&mut self, why: &str) {
        let kind = if is_power_loss(why) {
            FaultKind::CrashAtIo
        } else if why.contains("No space") {
            FaultKind::NoSpace
        } else if why.contains("sync") {
            FaultKind::SyncFails
        } else if why.contains("read") {
            FaultKind::ReadFails
        } else {
            FaultKind::WriteFails
        };
        self.counts.faults.note(kind);
    }

    /// Ends the process of a member. It starts again after a while.
    pub(crate) fn stop(&mut self, at: usize, power_loss: bool) {
        let host = &mut self.hosts[at];
        // The senders of messages that a paused process has not read get a reset.
        for event in host.held.take().into_iter().flatten() {
            self.agenda.after(0, event);
        }
        let Some(process) = host.process.take() else { return };
        host.number += 1;
        let is_unsynced = host.disk.has_unsynced();
        let id = process.id;
        drop(process);
        self.checks.invariants.crashed(id);
        if power_loss && is_unsynced {
            self.counts.faults.note(FaultKind::LostWrites);
        }
        self.tell(|| format!("m{at} ends, power loss: {power_loss}"));
        self.renew_disk(at, power_loss);
        self.break_connections(at);
        let down = match self.random.below(4) {
            _ if self.nemesis.is_done => 10 * MS,
            0 => 5 * MS + self.random.below(100 * MS),
            1 | 2 => self.random.below(3 * SECOND) + 5 * MS,
            _ => self.random.below(20 * SECOND) + 5 * MS,
        };
        self.agenda.after(down, Event::Boot { at });
    }

    /// Prepares the disk for the next process: applies the power loss, and removes its faults.
    fn renew_disk(&mut self, at: usize, power_loss: bool) {
        let image = self.random.draw();
        let host = &mut self.hosts[at];
        host.disk = if power_loss { host.disk.crash_image(image) } else { host.disk.fork() };
    }

    pub(crate) fn resume(&mut self, at: usize, process: u32) {
        let host = &mut self.hosts[at];
        if host.number != process {
            return;
        }
        let Some(held) = host.held.take() else { return };
        self.tell(|| format!("m{at} goes on"));
        for event in held {
            // Messages wait in the buffers of the kernel, and several threads read them.
            let is_read = matches!(event, Event::Message { .. });
            let delay = if is_read { self.random.below(5 * MS) } else { 0 };
            self.agenda.after(delay, event);
        }
    }

    /// The host of the leader of the newest term.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leads =
            |at: &usize| self.node(*at).is_some_and(|node| node.role() == raft::Role::Leader);
        let leaders = (0..self.hosts.len()).filter(leads);
        leaders.max_by_key(|at| self.node(*at).map(Node::term))
    }
}

#[expect(clippy::print_stdout, reason = "a trace that was asked for")]
fn say(now: u64, what: &str) {
    println!("{:>6}.{:06} {what}", now / SECOND, now % SECOND);
}

/// Whether a call to a disk failed because its machine has lost power.
pub(crate) fn is_power_loss(why: &str) -> bool {
    why.contains("the simulated machine")
}

//! Begins and ends the faults. One begins after the other and each lasts a while, so they overlap.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each function is given the kinds of faults that it handles"
)]

use super::active::Undo;
use super::clock::{MS, SECOND};
use super::event::Event;
use super::fault::FaultKind;
use super::world::World;
use executor::ConsensusInput;
use proto::NodeId;
use vfs::{Fault, Injection, Operation};

/// The largest drift of a clock, in parts per million.
const DRIFT: i64 = 40_000;

impl World {
    /// Begins a fault, and plans the next one.
    pub(crate) fn next_fault(&mut self) {
        if self.nemesis.is_done || self.setup.kinds.is_empty() {
            return;
        }
        let kind = self.setup.kinds[self.random.index(self.setup.kinds.len())];
        if kind.is_of_operator() {
            self.begin_task(kind);
        } else {
            self.begin_fault(kind);
        }
        let every = self.setup.fault_every;
        let next = every / 2 + self.random.below(every);
        self.agenda.after(next, Event::Fault);
    }

    /// The host of some member.
    fn any_host(&mut self) -> usize {
        match &self.members()[..] {
            [] => 0,
            members => members[self.random.index(members.len())],
        }
    }

    fn begin_fault(&mut self, kind: FaultKind) {
        self.tell(|| format!("fault: {}", kind.name()));
        let undo = match kind {
            FaultKind::Loss | FaultKind::Delay | FaultKind::Repeat | FaultKind::Reorder => {
                self.spoil_links(kind)
            }
            FaultKind::OneWayCut
            | FaultKind::DeafMember
            | FaultKind::MuteMember
            | FaultKind::Partition
            | FaultKind::Bridge
            | FaultKind::LeaderIsolation => self.cut(kind),
            FaultKind::ClientPartition
            | FaultKind::SlowCpu
            | FaultKind::SlowDisk
            | FaultKind::NoSpace
            | FaultKind::FastClock
            | FaultKind::SlowClock => self.slow(kind),
            FaultKind::SyncFails
            | FaultKind::WriteFails
            | FaultKind::ReadFails
            | FaultKind::CrashAtIo => {
                self.arm(kind);
                None
            }
            FaultKind::Kill
            | FaultKind::KillLeader
            | FaultKind::CrashLoop
            | FaultKind::PowerLossOfAll
            | FaultKind::RestartOfAll
            | FaultKind::Pause
            | FaultKind::PauseLeader
            | FaultKind::StalledDisk
            | FaultKind::ClockJump
            | FaultKind::Transfer => {
                self.strike(kind);
                None
            }
            // These are effects of other faults.
            FaultKind::LostWrites | FaultKind::SnapshotNeeded => None,
            // These are tasks of the operator.
            _ => None,
        };
        let Some(undo) = undo else { return };
        if kind != FaultKind::NoSpace {
            self.counts.faults.note(kind);
        }
        self.nemesis.begun += 1;
        let number = self.nemesis.begun;
        self.nemesis.active.insert(number, undo);
        let lasts = match self.random.below(3) {
            0 => 200 * MS + self.random.below(2 * SECOND),
            1 => SECOND + self.random.below(6 * SECOND),
            _ => SECOND + self.random.below(20 * SECOND),
        };
        self.agenda.after(lasts, Event::EndFault { kind, number });
    }

    fn spoil_links(&mut self, kind: FaultKind) -> Option<Undo> {
        let size = self.hosts.len();
        if size < 2 {
            return None;
        }
        let of_all = self.random.chance(128);
        let (one, other) = (self.any_host(), self.any_host());
        let links = pairs(size).filter(|link| of_all || *link == (one, other) || link.0 == one);
        let links: Vec<_> = links.collect();
        let how_bad = 5 + self.random.below(100);
        for (from, to) in links.iter().copied() {
            let link = self.network.link(from, to);
            match kind {
                FaultKind::Loss => link.loss = how_bad,
                FaultKind::Delay => link.delay = how_bad * 5 * MS,
                FaultKind::Repeat => link.repeats = how_bad,
                _ => link.overtaken = how_bad,
            }
        }
        Some(Undo::Links(links))
    }

    fn cut(&mut self, kind: FaultKind) -> Option<Undo> {
        let size = self.hosts.len();
        if size < 2 {
            return None;
        }
        let one = self.any_host();
        let other = (one + 1 + self.random.index(size - 1)) % size;
        let leader = self.leader();
        let is_in_group: Vec<bool> = (0..size).map(|_| self.random.chance(128)).collect();
        let is_cut = |(from, to): (usize, usize)| match kind {
            FaultKind::OneWayCut => (from, to) == (one, other),
            FaultKind::DeafMember => to == one,
            FaultKind::MuteMember => from == one,
            FaultKind::LeaderIsolation => {
                let leader = leader.unwrap_or(one);
                from == leader || to == leader
            }
            FaultKind::Bridge => from != one && to != one && is_in_group[from] != is_in_group[to],
            _ => is_in_group[from] != is_in_group[to],
        };
        let links: Vec<_> = pairs(size).filter(|link| is_cut(*link)).collect();
        for (from, to) in links.iter().copied() {
            self.network.link(from, to).cuts += 1;
        }
        (!links.is_empty()).then_some(Undo::Cuts(links))
    }

    fn slow(&mut self, kind: FaultKind) -> Option<Undo> {
        let at = self.any_host();
        let now = self.now();
        let (slower, drift) = (1 + self.random.below(300), self.random.below(DRIFT.unsigned_abs()));
        let drift = i64::try_from(drift).unwrap_or(0);
        let host = &mut self.hosts[at];
        match kind {
            FaultKind::ClientPartition => host.client_cuts += 1,
            FaultKind::SlowCpu => host.pace.cpu = 1 + slower * 5,
            FaultKind::SlowDisk => host.pace.disk_delay = 1 + slower * MS,
            FaultKind::NoSpace => {
                for operation in [Operation::Create, Operation::Allocate, Operation::SetLen] {
                    let lasting = Injection::first(operation, Fault::NoSpace);
                    host.disk.inject(Injection { lasting: true, ..lasting });
                }
            }
            FaultKind::FastClock => host.drift = drift,
            _ => host.drift = -drift,
        }
        host.clock.set_drift(now, host.drift);
        Some(Undo::Host(at))
    }

    /// Makes a later call to the disk fail, or the machine lose power during it. The fault counts
    /// when that happens.
    fn arm(&mut self, kind: FaultKind) {
        let at = self.any_host();
        let skip = self.random.below(30);
        let disk = &self.hosts[at].disk;
        let first = |operation, fault| Injection { skip, ..Injection::first(operation, fault) };
        match kind {
            FaultKind::SyncFails => disk.inject(first(Operation::Sync, Fault::Io)),
            // Only in `/snap/`: a write to the log that ends inside a sector looks like damage, as
            // it does to etcd.
            FaultKind::WriteFails => {
                let path = "/snap/".to_owned();
                disk.inject(Injection { path, ..first(Operation::Write, Fault::Io) });
            }
            FaultKind::ReadFails => disk.inject(first(Operation::Read, Fault::Io)),
            _ => disk.stop_at(disk.points() + 1 + skip),
        }
    }

    fn strike(&mut self, kind: FaultKind) {
        let any = self.any_host();
        let leader = self.leader();
        let happened = match kind {
            FaultKind::Kill => self.end(any, false),
            FaultKind::KillLeader => leader.is_some_and(|at| self.end(at, false)),
            FaultKind::CrashLoop => {
                self.hosts[any].life.crash_loop =
                    2 + u32::try_from(self.random.below(4)).unwrap_or(0);
                self.end(any, false)
            }
            FaultKind::PowerLossOfAll | FaultKind::RestartOfAll => {
                let power_loss = kind == FaultKind::PowerLossOfAll;
                let ended = (0..self.hosts.len()).filter(|at| self.end(*at, power_loss)).count();
                ended > 0
            }
            FaultKind::Pause => self.pause(any),
            FaultKind::PauseLeader => leader.is_some_and(|at| self.pause(at)),
            FaultKind::StalledDisk => {
                let until = self.now() + SECOND + self.random.below(8 * SECOND);
                self.hosts[any].pace.stalled_until = until;
                true
            }
            FaultKind::ClockJump => {
                let by = 10 * MS + self.random.below(3 * SECOND);
                let now = self.now();
                self.hosts[any].clock.jump(now, by);
                self.checks.leases.jumped += by;
                self.hosts[any].process.is_some()
            }
            _ => self.transfer(any),
        };
        if happened {
            self.counts.faults.note(kind);
        }
    }

    fn end(&mut self, at: usize, power_loss: bool) -> bool {
        let runs = self.hosts[at].process.is_some();
        self.stop(at, power_loss);
        runs
    }

    /// Kills a process that has just started, if its host is in a crash loop.
    pub(crate) fn loop_crash(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        if host.life.crash_loop > 0 {
            host.life.crash_loop -= 1;
            let process = host.number;
            let lives = self.random.below(400 * MS);
            let power_loss = self.random.chance(128);
            self.agenda.after(lives, Event::Stop { at, process, power_loss });
        }
    }

    fn pause(&mut self, at: usize) -> bool {
        let lasts = match self.random.below(2) {
            0 => 50 * MS + self.random.below(2 * SECOND),
            _ => SECOND + self.random.below(12 * SECOND),
        };
        let host = &mut self.hosts[at];
        if !host.is_running() {
            return false;
        }
        host.held = Some(Vec::new());
        let process = host.number;
        self.agenda.after(lasts, Event::Resume { at, process });
        self.tell(|| format!("m{at} stands still"));
        true
    }

    fn transfer(&mut self, to: usize) -> bool {
        let id = self.places.iter().find(|(_, at)| **at == to).map(|(id, _)| *id);
        let (Some(leader), Some(id)) = (self.leader(), id) else { return false };
        if leader == to || id == NodeId::NONE || !self.hosts[leader].is_running() {
            return false;
        }
        if let Some(process) = &mut self.hosts[leader].process {
            process.push(ConsensusInput::Transfer(id));
        }
        self.plan_work(leader);
        true
    }

    /// Ends a fault.
    pub(crate) fn end_fault(&mut self, kind: FaultKind, number: u64) {
        let Some(undo) = self.nemesis.active.remove(&number) else { return };
        self.tell(|| format!("fault ends: {}", kind.name()));
        match undo {
            Undo::Links(links) => {
                for (from, to) in links {
                    let link = self.network.link(from, to);
                    match kind {
                        FaultKind::Loss => link.loss = 0,
                        FaultKind::Delay => link.delay = 0,
                        FaultKind::Repeat => link.repeats = 0,
                        _ => link.overtaken = 0,
                    }
                }
            }
            Undo::Cuts(links) => {
                for (from, to) in links {
                    let link = self.network.link(from, to);
                    link.cuts = link.cuts.saturating_sub(1);
                }
            }
            Undo::Host(at) => self.recover(at, kind),
        }
    }

    fn recover(&mut self, at: usize, kind: FaultKind) {
        let now = self.now();
        let host = &mut self.hosts[at];
        match kind {
            FaultKind::ClientPartition => host.client_cuts = host.client_cuts.saturating_sub(1),
            FaultKind::SlowCpu => host.pace.cpu = 1,
            FaultKind::SlowDisk => host.pace.disk_delay = 0,
            FaultKind::NoSpace => host.disk.disarm(),
            _ => {
                host.drift = 0;
                host.clock.set_drift(now, 0);
            }
        }
    }

    /// Ends all faults.
    pub(crate) fn heal(&mut self) {
        self.nemesis.is_done = true;
        self.nemesis.active.clear();
        self.network.heal();
        let now = self.now();
        for at in 0..self.hosts.len() {
            let host = &mut self.hosts[at];
            host.client_cuts = 0;
            host.life.crash_loop = 0;
            host.pace.cpu = 1;
            host.pace.disk_delay = 0;
            host.pace.stalled_until = 0;
            host.drift = 0;
            host.clock.set_drift(now, 0);
            host.disk.disarm();
            let process = host.number;
            self.resume(at, process);
            if self.hosts[at].life.damage.is_some() {
                // Restarts it, so that it reads its files and detects the damage.
                self.stop(at, false);
            }
            // Work that was scheduled on a slow machine is scheduled again at the usual speed.
            self.hosts[at].at_work = [None; super::process::Machine::ALL.len()];
            if self.hosts[at].process.is_some() {
                self.plan_work(at);
            } else if self.hosts[at].is_member() {
                self.agenda.after(0, Event::Boot { at });
            }
        }
    }
}

/// All links between this many hosts.
fn pairs(size: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..size).flat_map(move |from| (0..size).map(move |to| (from, to))).filter(|(a, b)| a != b)
}

//! A machine on which a member runs: its disk, which outlives the process, its clock, and its
//! speed.

use super::clock::{MS, MemberClock};
use super::event::Event;
use super::fault::FaultKind;
use super::process::{Machine, Process};
use cluster::Cluster;
use executor::BootOptions;
use proto::NodeId;
use random::Random;
use vfs::SimDisk;

/// The speed of a machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The factor by which computing takes longer than usual.
    pub(crate) cpu: u64,
    /// The usual time of a call to the disk.
    pub(crate) disk: u64,
    /// How much longer a call to the disk takes now.
    pub(crate) disk_delay: u64,
    /// No call to the disk returns before this time.
    pub(crate) stalled_until: u64,
}

impl Pace {
    /// The time that a piece of work takes.
    pub(crate) fn time_of(&self, machine: Machine, now: u64, random: &mut Random) -> u64 {
        match machine {
            Machine::Consensus | Machine::Worker => self.cpu * (2 + random.below(30)),
            Machine::Applier => self.cpu * (5 + random.below(60)),
            Machine::Log | Machine::Backend => {
                let calls = if machine == Machine::Log { 1 } else { 4 };
                let usual = calls * (self.disk / 2 + random.below(self.disk));
                let delay = self.disk_delay / 2 + random.below(self.disk_delay);
                (usual + delay).max(self.stalled_until.saturating_sub(now))
            }
        }
    }
}

/// The occupant of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    /// No member.
    Vacant,
    /// A member, which starts again whenever its process has ended.
    Member(NodeId),
    /// A member that does not start again: its disk is lost or damaged.
    Broken(NodeId),
    /// A member that was removed from the cluster. Its process ends soon.
    Removed(NodeId),
}

/// The member of a host.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) seat: Seat,
    /// When its process started.
    pub(crate) started: u64,
    /// The process knows that the member was removed, and is about to end.
    pub(crate) is_leaving: bool,
    /// The number of failed starts in a row.
    pub(crate) failed_starts: u32,
    /// The process is killed soon after each of this many next starts.
    pub(crate) crash_loop: u32,
    /// A bit of its files has flipped, and no process has read the files since.
    pub(crate) damage: Option<FaultKind>,
    /// A bit has flipped since the member moved to this host.
    pub(crate) was_damaged: bool,
}

impl Life {
    pub(crate) fn new(seat: Seat) -> Life {
        Life {
            seat,
            started: 0,
            is_leaving: false,
            failed_starts: 0,
            crash_loop: 0,
            damage: None,
            was_damaged: false,
        }
    }
}

/// A machine.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) life: Life,
    pub(crate) disk: SimDisk,
    pub(crate) options: BootOptions,
    pub(crate) process: Option<Process>,
    /// The number of the process that runs or ran last.
    pub(crate) number: u32,
    pub(crate) clock: MemberClock,
    /// How much faster than the world its clock runs, in parts per million.
    pub(crate) drift: i64,
    pub(crate) pace: Pace,
    /// When each machine finishes its current piece of work, if it has one.
    pub(crate) at_work: [Option<u64>; Machine::ALL.len()],
    /// The events that wait for a paused process. `None` if it is not paused.
    pub(crate) held: Option<Vec<Event>>,
    /// The number of active faults that cut clients off.
    pub(crate) client_cuts: u32,
}

impl Host {
    pub(crate) fn new(seat: Seat, options: BootOptions, random: &mut Random) -> Host {
        // From flash to a busy rotating disk.
        let disk = [50, 500, 3 * MS, 15 * MS, 40 * MS][random.index(5)];
        Host {
            life: Life::new(seat),
            disk: SimDisk::new(random.draw()),
            options,
            process: None,
            number: 0,
            clock: MemberClock::starting(0, 0),
            drift: 0,
            pace: Pace { cpu: 1, disk, disk_delay: 0, stalled_until: 0 },
            at_work: [None; Machine::ALL.len()],
            held: None,
            client_cuts: 0,
        }
    }

    /// Whether a member with an intact disk lives here.
    pub(crate) fn is_member(&self) -> bool {
        matches!(self.life.seat, Seat::Member(_))
    }

    /// The cluster as the member knows it.
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        Some(&self.process.as_ref()?.gateway.moment.published.cluster)
    }

    /// Whether its process runs and is not paused.
    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some() && self.held.is_none()
    }
}

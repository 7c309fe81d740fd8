//! The kinds of faults, and how often each has occurred.

use std::collections::BTreeMap;

macro_rules! kinds {
    ($($kind:ident $name:literal $about:literal,)*) => {
        /// A kind of fault. It counts when it has had an effect.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum FaultKind {
            $(#[doc = $about] $kind,)*
        }

        impl FaultKind {
            /// All kinds.
            pub const ALL: &[FaultKind] = &[$(FaultKind::$kind),*];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(FaultKind::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    Loss "message-loss" "Some messages of all links are lost.",
    Delay "message-delay" "Messages take up to a second longer.",
    Repeat "message-duplication" "Messages arrive twice.",
    Reorder "message-reordering" "Messages are overtaken by later ones.",
    OneWayCut "one-way-partition" "One link lets nothing through.",
    DeafMember "deaf-member" "A member hears nobody, and all hear it.",
    MuteMember "mute-member" "A member hears all, and nobody hears it.",
    Partition "full-partition" "The members are two groups that do not hear each other.",
    Bridge "bridge-partition" "Two groups hear one member in common, and not each other.",
    LeaderIsolation "leader-isolation" "The leader hears nobody and is not heard.",
    ClientPartition "client-partition" "Clients do not reach a member, and it does not reach them.",
    CrashAtIo "crash-at-io" "The machine of a member loses power during a call to its disk.",
    LostWrites "lost-and-torn-unsynced-writes" "A power failure leaves a part of what was not synced.",
    Kill "kill" "The process of a member is killed; its page cache stays.",
    KillLeader "kill-leader" "The process of the leader is killed.",
    CrashLoop "crash-loop" "A member is killed shortly after each of several starts.",
    PowerLossOfAll "power-loss-of-all" "The machines of all members lose power at once.",
    RestartOfAll "restart-of-all" "The processes of all members are killed at once.",
    Pause "paused-process" "The process of a member stands still.",
    PauseLeader "paused-leader" "The process of the leader stands still.",
    SlowCpu "slow-cpu" "A member computes slowly.",
    SyncFails "failed-sync" "A sync fails; what it did not write stays in the page cache.",
    WriteFails "failed-write" "A write fails halfway.",
    ReadFails "failed-read" "A read fails.",
    NoSpace "full-disk" "There is no space for some time.",
    SlowDisk "slow-disk" "Each call to the disk takes long.",
    StalledDisk "stalled-disk" "A call to the disk does not return for a while.",
    ClockJump "clock-jump" "The clock of a member jumps forward.",
    FastClock "clock-drift-fast" "The clock of a member runs fast.",
    SlowClock "clock-drift-slow" "The clock of a member runs slowly.",
    Transfer "leader-transfer" "The leadership is handed over.",
    SnapshotNeeded "snapshot-to-a-laggard" "A member is so far behind that it gets a snapshot.",
    MemberAdd "member-add" "A voter is added, and starts without data.",
    LearnerAdd "learner-add" "A learner is added, and starts without data.",
    LearnerPromote "learner-promote" "A learner becomes a voter.",
    MemberRemove "member-remove" "A member is removed.",
    LeaderRemove "leader-remove" "The leader is removed.",
    MemberUpdate "member-update" "The peer URLs of a member change.",
    LostDisk "lost-disk-and-rejoin" "The disk of a member is lost; it is removed, and added again with another id.",
    LogFlip "bit-flip-in-log" "A bit of the log flips on the disk, and the member finds it.",
    DatabaseFlip "bit-flip-in-database" "A bit of a page's header flips on the disk, and the member finds it.",
    SnapFlip "bit-flip-in-snapshot" "A bit of a .snap file flips on the disk, and the member finds it.",
}

impl FaultKind {
    /// Whether it is a task of the operator, who changes the members.
    pub(crate) fn is_of_operator(self) -> bool {
        matches!(
            self,
            FaultKind::MemberAdd
                | FaultKind::LearnerAdd
                | FaultKind::LearnerPromote
                | FaultKind::MemberRemove
                | FaultKind::LeaderRemove
                | FaultKind::MemberUpdate
                | FaultKind::LostDisk
                | FaultKind::LogFlip
                | FaultKind::DatabaseFlip
                | FaultKind::SnapFlip
        )
    }
}

/// How often each kind has occurred.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultTally {
    counts: BTreeMap<FaultKind, u64>,
}

impl FaultTally {
    /// Counts a fault.
    pub(crate) fn note(&mut self, kind: FaultKind) {
        *self.counts.entry(kind).or_default() += 1;
    }

    /// How often this kind has occurred.
    #[must_use]
    pub fn count(&self, kind: FaultKind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }

    /// How many faults there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &FaultTally) {
        for (kind, count) in &other.counts {
            *self.counts.entry(*kind).or_default() += count;
        }
    }
}

//! The leader's knowledge of one member's log, and its flow control.
//!
//! Source: etcd raft v3.7 tracker/progress.go, state.go.

use super::Inflights;
use proto::Index;
use std::fmt;

/// How the leader sends to a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProgressState {
    /// The last agreeing entry is not known: one append at a time until the member accepts one.
    #[default]
    Probe,
    /// The logs agree up to `matched`: appends are sent without waiting for responses.
    Replicate,
    /// The member needs entries that the leader no longer has: no append is sent until a snapshot has
    /// arrived.
    Snapshot,
}

/// The leader's knowledge of one member.
///
/// - *Invariant:* `matched < next`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last entry known to be durable on the member.
    pub matched: Index,
    /// The next entry to send. The entries between are in flight.
    pub next: Index,
    /// The highest commit index that was sent.
    pub sent_commit: Index,
    /// The mode of sending.
    pub state: ProgressState,
    /// In `Snapshot`: the index of the snapshot in flight.
    pub pending_snapshot: Index,
    /// True if the member responded recently.
    pub recent_active: bool,
    /// True while sending waits for the response to a probe or for room in the window.
    pub paused: bool,
    /// The next entry is being read from the log file since it was this one; nothing is sent
    /// meanwhile.
    pub reading: Option<Index>,
    /// In `Replicate`: the appends in flight.
    pub inflights: Inflights,
    /// True for a learner.
    pub is_learner: bool,
}

impl Progress {
    /// Switches to [`ProgressState::Probe`], from the entry after `matched` on.
    pub fn become_probe(&mut self) {
        let pending = self.pending_snapshot;
        let behind_snapshot = self.state == ProgressState::Snapshot;
        self.reset_state(ProgressState::Probe);
        self.next = self.matched.next();
        if behind_snapshot {
            self.next = self.next.max(pending.next());
        }
        self.lower_sent_commit();
    }

    /// Switches to [`ProgressState::Replicate`].
    pub fn become_replicate(&mut self) {
        self.reset_state(ProgressState::Replicate);
        self.next = self.matched.next();
    }

    /// Switches to [`ProgressState::Snapshot`]: a snapshot at `index` was sent.
    pub(crate) fn become_snapshot(&mut self, index: Index) {
        self.reset_state(ProgressState::Snapshot);
        self.pending_snapshot = index;
        self.next = index.next();
        self.sent_commit = index;
    }

    fn reset_state(&mut self, state: ProgressState) {
        self.paused = false;
        self.pending_snapshot = Index(0);
        self.reading = None;
        self.state = state;
        self.inflights.clear();
    }

    /// Records that an append was sent, with `count` entries that have `bytes` bytes of data.
    pub(crate) fn sent_entries(&mut self, count: u64, bytes: usize) {
        match self.state {
            ProgressState::Replicate => {
                if count > 0 {
                    self.next.0 += count;
                    self.inflights.add(Index(self.next.0 - 1), bytes);
                }
                self.paused = self.inflights.is_full();
            }
            ProgressState::Probe => self.paused |= count > 0,
            ProgressState::Snapshot => {
                panic!("no append is sent to a member that waits for a snapshot")
            }
        }
    }

    /// Records that the member has all entries up to `index`. Returns false if that was known.
    pub(crate) fn maybe_update(&mut self, index: Index) -> bool {
        if index <= self.matched {
            return false;
        }
        self.matched = index;
        self.next = self.next.max(index.next());
        self.paused = false;
        true
    }

    /// Records that the member refused an append after entry `rejected`; the logs may agree at
    /// `hint`. Returns false if the refusal is outdated.
    pub(crate) fn maybe_decrement(&mut self, rejected: Index, hint: Index) -> bool {
        if self.state == ProgressState::Replicate {
            // In this state only entries above `matched` can be refused.
            if rejected <= self.matched {
                return false;
            }
            self.next = self.matched.next();
        } else {
            // A probe has one append in flight, so a response to another append is outdated.
            if self.next.0 - 1 != rejected.0 {
                return false;
            }
            let hinted = Index(hint.0.saturating_add(1));
            self.next = rejected.min(hinted).max(self.matched.next());
            self.paused = false;
        }
        self.lower_sent_commit();
        true
    }

    fn lower_sent_commit(&mut self) {
        self.sent_commit = self.sent_commit.min(Index(self.next.0 - 1));
    }

    /// True if the member does not know the commit index of entries that it has.
    pub(crate) fn can_bump_commit(&self, commit: Index) -> bool {
        commit > self.sent_commit && self.sent_commit.0 < self.next.0 - 1
    }

    /// True if no append may be sent now.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused || self.state == ProgressState::Snapshot || self.reading == Some(self.next)
    }
}

impl fmt::Display for ProgressState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProgressState::Probe => "StateProbe",
            ProgressState::Replicate => "StateReplicate",
            ProgressState::Snapshot => "StateSnapshot",
        })
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} match={} next={}", self.state, self.matched, self.next)?;
        if self.is_learner {
            f.write_str(" learner")?;
        }
        if self.is_paused() {
            f.write_str(" paused")?;
        }
        if self.pending_snapshot > Index(0) {
            write!(f, " pendingSnap={}", self.pending_snapshot)?;
        }
        if !self.recent_active {
            f.write_str(" inactive")?;
        }
        if !self.inflights.is_empty() {
            write!(f, " inflight={}", self.inflights.len())?;
            if self.inflights.is_full() {
                f.write_str("[full]")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::InflightLimits;

    fn progress(state: ProgressState) -> Progress {
        Progress {
            matched: Index(5),
            next: Index(10),
            state,
            inflights: Inflights::new(InflightLimits { count: 2, bytes: 100 }),
            ..Progress::default()
        }
    }

    #[test]
    fn an_outdated_refusal_is_ignored() {
        let mut replicating = progress(ProgressState::Replicate);
        assert!(!replicating.maybe_decrement(Index(5), Index(5)));
        assert_eq!(replicating.next, Index(10));
        assert!(replicating.maybe_decrement(Index(9), Index(7)));
        assert_eq!(replicating.next, Index(6));

        let mut probing = progress(ProgressState::Probe);
        assert!(!probing.maybe_decrement(Index(8), Index(5)));
        assert_eq!(probing.next, Index(10));
        assert!(probing.maybe_decrement(Index(9), Index(7)));
        assert_eq!(probing.next, Index(8));
        assert!(probing.maybe_decrement(Index(7), Index(u64::MAX)));
        assert_eq!(probing.next, Index(7));
    }

    #[test]
    fn a_probe_waits_for_its_answer_and_replication_for_room() {
        let mut probing = progress(ProgressState::Probe);
        probing.sent_entries(1, 1);
        assert!(probing.is_paused());
        assert!(probing.maybe_update(Index(10)) && !probing.is_paused());

        let mut replicating = progress(ProgressState::Replicate);
        replicating.sent_entries(3, 1);
        assert!(!replicating.is_paused() && replicating.next == Index(13));
        replicating.sent_entries(1, 1);
        assert!(replicating.is_paused());
        assert_eq!(
            replicating.to_string(),
            "StateReplicate match=5 next=14 paused inactive inflight=2[full]"
        );
    }

    #[test]
    fn replication_waits_while_too_many_bytes_are_in_flight() {
        let mut replicating = progress(ProgressState::Replicate);
        replicating.sent_entries(1, 100);
        assert!(replicating.is_paused() && replicating.inflights.is_full());
        replicating.inflights.free_to(Index(10));
        assert!(!replicating.inflights.is_full() && replicating.inflights.is_empty());
    }
}

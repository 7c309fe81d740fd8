//! The rounds in which reads are confirmed. One read-index request serves all reads that wait when
//! it is made; the next one is made when it is answered.
//!
//! Source: etcd v3.7 server/etcdserver/read/read.go (`linearizableReadLoop`). Unlike in etcd, a
//! read survives a change of the leader: the next leader is asked, until the client's time is up.

/// The maximum number of reads that wait for confirmation.
const WAITING_MAX: usize = 10_000;
/// The ticks after which a round without an answer is repeated: its messages may be lost, or the
/// leader may have changed.
const RETRY_TICKS: u32 = 5;

/// A read-index request without an answer.
#[derive(Debug)]
struct Round {
    context: u64,
    reads: Vec<u64>,
    ticks: u32,
}

/// Reads that wait for confirmation.
#[derive(Debug, Default)]
pub(crate) struct ReadRounds {
    /// The reads of the next round.
    waiting: Vec<u64>,
    round: Option<Round>,
    /// Whether the leader is to be asked again.
    is_due: bool,
}

impl ReadRounds {
    /// Adds a read to the next round. Returns false if too many wait.
    pub(crate) fn add(&mut self, read: u64) -> bool {
        let asked = self.round.as_ref().map_or(0, |round| round.reads.len());
        if self.waiting.len() + asked >= WAITING_MAX {
            return false;
        }
        self.waiting.push(read);
        true
    }

    /// True if [`ReadRounds::begin`] has a round to begin.
    pub(crate) fn is_due(&self) -> bool {
        self.is_due || (self.round.is_none() && !self.waiting.is_empty())
    }

    /// True while a round waits for its answer.
    pub(crate) fn is_under_way(&self) -> bool {
        self.round.is_some()
    }

    /// Begins a round with all waiting reads. The reads of an older round join this one.
    pub(crate) fn begin(&mut self, context: u64) {
        self.is_due = false;
        let mut reads = std::mem::take(&mut self.waiting);
        if let Some(round) = self.round.take() {
            reads.extend(round.reads);
        }
        self.round = Some(Round { context, reads, ticks: 0 });
    }

    /// The reads that an answer with this context confirms.
    pub(crate) fn confirmed(&mut self, context: u64) -> Vec<u64> {
        let round = self.round.take_if(|round| round.context == context);
        round.map(|round| round.reads).unwrap_or_default()
    }

    /// Called at each tick.
    pub(crate) fn tick(&mut self) {
        if let Some(round) = &mut self.round {
            round.ticks += 1;
            self.is_due |= round.ticks >= RETRY_TICKS;
        }
    }

    /// Called when the leader has changed, or has committed an entry of its term: repeats the
    /// round.
    pub(crate) fn retry(&mut self) {
        self.is_due |= self.round.is_some();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_that_come_during_a_round_are_confirmed_by_the_next_one() {
        let mut rounds = ReadRounds::default();
        assert!(!rounds.is_due());
        assert!(rounds.add(1));
        assert!(rounds.is_due());
        rounds.begin(100);
        assert!(rounds.add(2) && rounds.add(3));
        assert!(!rounds.is_due(), "one round at a time");
        assert_eq!(rounds.confirmed(100), [1]);
        assert!(rounds.is_due());
        rounds.begin(101);
        assert_eq!(rounds.confirmed(100), [0; 0], "a late answer confirms nothing");
        assert_eq!(rounds.confirmed(101), [2, 3]);
    }

    #[test]
    fn a_round_without_an_answer_is_begun_again_with_all_that_wait() {
        let mut rounds = ReadRounds::default();
        assert!(rounds.add(1));
        rounds.begin(100);
        assert!(rounds.add(2));
        for _ in 1..RETRY_TICKS {
            rounds.tick();
            assert!(!rounds.is_due());
        }
        rounds.tick();
        assert!(rounds.is_due());
        rounds.begin(101);
        assert_eq!(rounds.confirmed(100), [0; 0]);
        assert_eq!(rounds.confirmed(101), [2, 1]);
    }

    #[test]
    fn reads_over_the_bound_are_refused() {
        let mut rounds = ReadRounds::default();
        for read in 0..WAITING_MAX as u64 {
            assert!(rounds.add(read));
        }
        assert!(!rounds.add(0));
        rounds.begin(1);
        assert!(!rounds.add(0), "those under way count");
        rounds.confirmed(1);
        assert!(rounds.add(0));
    }
}

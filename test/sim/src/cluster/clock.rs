//! Virtual time: the agenda of events, and the clocks of members, which drift and jump. All times
//! are in microseconds; times of the world count from its beginning.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

/// A second.
pub(crate) const SECOND: u64 = 1_000_000;
/// A millisecond.
pub(crate) const MS: u64 = 1_000;

const MILLION: i64 = 1_000_000;

struct Due<T> {
    at: u64,
    number: u64,
    what: T,
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Due<T> {}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Due<T> {
    /// The earliest is the greatest, because the heap returns its greatest item.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// Events by time. Events of the same time are in the order in which they were added.
pub(crate) struct Agenda<T> {
    due: BinaryHeap<Due<T>>,
    now: u64,
    number: u64,
}

impl<T> Agenda<T> {
    pub(crate) fn new() -> Agenda<T> {
        Agenda { due: BinaryHeap::new(), now: 0, number: 0 }
    }

    /// The current time, which is that of the last event taken.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Adds an event for a time, or for now if that time has passed.
    pub(crate) fn at(&mut self, at: u64, what: T) {
        self.number += 1;
        self.due.push(Due { at: at.max(self.now), number: self.number, what });
    }

    pub(crate) fn after(&mut self, delay: u64, what: T) {
        self.at(self.now.saturating_add(delay), what);
    }

    /// Takes the next event, and advances the time.
    pub(crate) fn take(&mut self) -> Option<T> {
        let due = self.due.pop()?;
        self.now = due.at;
        Some(due.what)
    }
}

/// The monotonic clock of a member's process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemberClock {
    /// Its time at `since`.
    base: u64,
    since: u64,
    /// How much faster than the world it runs, in parts per million.
    drift: i64,
}

impl MemberClock {
    /// A clock of a process that starts now.
    pub(crate) fn starting(now: u64, drift: i64) -> MemberClock {
        MemberClock { base: 0, since: now, drift }
    }

    fn read(&self, now: u64) -> u64 {
        self.base + scaled(now.saturating_sub(self.since), MILLION + self.drift, MILLION)
    }

    /// Its time.
    pub(crate) fn now(&self, now: u64) -> Duration {
        Duration::from_micros(self.read(now))
    }

    /// Converts a duration of this clock to one of the world.
    pub(crate) fn real(&self, local: u64) -> u64 {
        scaled(local, MILLION, MILLION + self.drift)
    }

    /// The time of the world until this clock shows `local`.
    pub(crate) fn until(&self, local: Duration, now: u64) -> u64 {
        let local = u64::try_from(local.as_micros()).unwrap_or(u64::MAX);
        match local.checked_sub(self.read(now)) {
            None | Some(0) => 0,
            // The clock shows whole microseconds.
            Some(left) => self.real(left) + 1,
        }
    }

    /// Changes its speed.
    pub(crate) fn set_drift(&mut self, now: u64, drift: i64) {
        *self = MemberClock { base: self.read(now), since: now, drift };
    }

    /// Makes it jump forward. A monotonic clock never goes back.
    pub(crate) fn jump(&mut self, now: u64, by: u64) {
        *self = MemberClock { base: self.read(now) + by, since: now, drift: self.drift };
    }
}

fn scaled(time: u64, by: i64, of: i64) -> u64 {
    let by = u128::from(by.unsigned_abs());
    let of = u128::from(of.unsigned_abs().max(1));
    u64::try_from(u128::from(time) * by / of).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_done_in_order_of_time_then_of_arrival() {
        let mut agenda = Agenda::new();
        agenda.at(5, "b");
        agenda.at(3, "a");
        agenda.at(5, "c");
        assert_eq!((agenda.take(), agenda.now()), (Some("a"), 3));
        agenda.at(1, "late");
        let rest: Vec<_> = std::iter::from_fn(|| agenda.take()).collect();
        assert_eq!(rest, ["late", "b", "c"]);
    }

    #[test]
    fn a_clock_drifts_jumps_and_never_goes_back() {
        let mut clock = MemberClock::starting(SECOND, 100_000);
        assert_eq!(clock.now(2 * SECOND), Duration::from_millis(1_100));
        assert_eq!(clock.until(Duration::from_millis(2_200), 2 * SECOND), SECOND + 1);
        clock.set_drift(2 * SECOND, -100_000);
        assert_eq!(clock.now(3 * SECOND), Duration::from_millis(2_000));
        clock.jump(3 * SECOND, SECOND);
        assert_eq!(clock.now(3 * SECOND), Duration::from_secs(3));
    }
}

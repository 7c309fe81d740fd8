//! The moments at which requests are to be sent.

use std::time::Duration;
use tokio::time::Instant;

/// How many requests are sent, and at what rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Requests per second. Without it, each client sends its next request when the last one is
    /// answered.
    pub per_second: Option<u32>,
    /// The time after which no request is sent.
    pub time: Option<Duration>,
    /// The number of requests.
    pub count: Option<u64>,
}

/// Hands out the moments of requests.
#[derive(Debug)]
pub struct Schedule {
    pace: Pace,
    start: Instant,
    /// The moment of the next request.
    next: Instant,
    /// The number of requests handed to clients so far.
    given: u64,
}

impl Schedule {
    /// Requests that are late by more than this are skipped; they are late when all clients wait for
    /// responses. The limit is longer than the timer's resolution of 1 ms, so that an idle client
    /// keeps the rate.
    const LATE_MAX: Duration = Duration::from_millis(10);

    /// A schedule that starts now.
    #[must_use]
    pub fn new(pace: Pace, now: Instant) -> Schedule {
        Schedule { pace, start: now, next: now, given: 0 }
    }

    /// The number of the next request, from 0 on, and its time; `None` if there are no more.
    pub fn take(&mut self, now: Instant) -> Option<(u64, Instant)> {
        if self.pace.count.is_some_and(|count| self.given >= count) {
            return None;
        }
        let at = match self.pace.per_second {
            Some(per_second) => {
                let earliest = now.checked_sub(Schedule::LATE_MAX).unwrap_or(now);
                let at = self.next.max(earliest);
                self.next = at + Duration::from_secs(1) / per_second;
                at
            }
            None => now,
        };
        if self.pace.time.is_some_and(|time| at >= self.start + time) {
            return None;
        }
        self.given += 1;
        Some((self.given - 1, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(per_second: u32, seconds: u64) -> (Schedule, Instant) {
        let start = Instant::now();
        let time = Some(Duration::from_secs(seconds));
        let pace = Pace { per_second: Some(per_second), time, count: None };
        (Schedule::new(pace, start), start)
    }

    fn moment(schedule: &mut Schedule, now: Instant) -> Option<Instant> {
        schedule.take(now).map(|(_, at)| at)
    }

    #[test]
    fn a_rate_is_kept_by_clients_that_ask_early() {
        let (mut schedule, start) = every(1000, 2);
        let given: Vec<_> = std::iter::from_fn(|| moment(&mut schedule, start)).collect();
        assert_eq!(given.len(), 2000);
        assert_eq!(given[0], start);
        assert_eq!(given[1999] - start, Duration::from_millis(1999));
    }

    #[test]
    fn a_little_time_is_made_up_and_much_is_lost() {
        let (mut schedule, start) = every(1000, 2);
        assert_eq!(moment(&mut schedule, start), Some(start));
        // The requests due at 1 to 5 ms are sent late, the one due at 6 ms in time.
        let now = start + Duration::from_millis(5);
        let late = |schedule: &mut Schedule, now| {
            std::iter::from_fn(|| moment(schedule, now)).take_while(|at| *at <= now).count()
        };
        assert_eq!(late(&mut schedule, now), 5);
        // After a second in which no client was free, only the last milliseconds are made up for.
        let now = start + Duration::from_secs(1);
        assert_eq!(late(&mut schedule, now), 11);
        assert_eq!(moment(&mut schedule, start + Duration::from_secs(3)), None);
    }

    #[test]
    fn a_count_is_given_out_without_waiting() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Pace { count: Some(3), ..Pace::default() }, start);
        let later = start + Duration::from_secs(9);
        let given: Vec<_> = std::iter::from_fn(|| schedule.take(later)).collect();
        assert_eq!(given, [(0, later), (1, later), (2, later)]);
    }

    #[test]
    fn a_count_may_have_a_rate() {
        let start = Instant::now();
        let pace = Pace { count: Some(3), per_second: Some(2), time: None };
        let mut schedule = Schedule::new(pace, start);
        let given: Vec<_> = std::iter::from_fn(|| moment(&mut schedule, start)).collect();
        let half = Duration::from_millis(500);
        assert_eq!(given, [start, start + half, start + 2 * half]);
    }
}

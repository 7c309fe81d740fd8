//! Sends writes from many clients on a schedule and measures how long each takes.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/check.go.

use crate::bar::Bar;
use crate::summary::{Results, Summary};
use client::Client;
use proto::etcdserverpb::PutRequest;
use proto::varint;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How many writes are sent, and at what rate.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// This many per second, for this time.
    Rate { per_second: u32, time: Duration },
    /// This many in total; each client sends its next write when the last one is answered.
    Count(u64),
}

/// The keys and values that are written.
#[derive(Clone, Debug)]
pub(crate) struct Pairs {
    /// The prefix of every key.
    pub(crate) prefix: Vec<u8>,
    /// The length of a key after the prefix: a number, then zeros.
    pub(crate) key_bytes: usize,
    /// The length of a value, whose bytes are zeros.
    pub(crate) value_bytes: usize,
}

/// The moments at which writes are to be sent.
#[derive(Debug)]
struct Schedule {
    pace: Pace,
    start: Instant,
    /// The moment of the next write.
    next: Instant,
    /// The number of writes handed to clients so far.
    given: u64,
}

impl Schedule {
    /// Writes that are late by more than this are skipped; they are late when all clients wait for
    /// responses. The limit is longer than the timer's resolution of 1 ms, so that an idle client
    /// keeps the rate.
    const LATE_MAX: Duration = Duration::from_millis(10);

    fn new(pace: Pace, now: Instant) -> Schedule {
        Schedule { pace, start: now, next: now, given: 0 }
    }

    /// The time of the next write; `None` if there are no more.
    fn take(&mut self, now: Instant) -> Option<Instant> {
        match self.pace {
            Pace::Rate { per_second, time } => {
                let earliest = now.checked_sub(Schedule::LATE_MAX).unwrap_or(now);
                let at = self.next.max(earliest);
                if at >= self.start + time {
                    return None;
                }
                self.next = at + Duration::from_secs(1) / per_second;
                self.given += 1;
                Some(at)
            }
            Pace::Count(count) => {
                let given = self.given;
                self.given += 1;
                (given < count).then_some(now)
            }
        }
    }
}

/// A load that is running.
struct Load {
    schedule: Mutex<Schedule>,
    pairs: Pairs,
    numbers: RandomState,
    bar: Bar,
}

/// Writes with all clients until all writes are sent or `stop` becomes true. Returns the summary.
pub(crate) async fn run(
    clients: &[Client],
    pace: Pace,
    pairs: Pairs,
    stop: &watch::Receiver<bool>,
) -> Summary {
    let start = Instant::now();
    let bar = Bar::start(match pace {
        Pace::Rate { time, .. } => time.as_secs(),
        Pace::Count(count) => count,
    });
    let schedule = Mutex::new(Schedule::new(pace, start));
    let load = Arc::new(Load { schedule, pairs, numbers: RandomState::new(), bar });
    let mut writers = JoinSet::new();
    for client in clients {
        writers.spawn(Arc::clone(&load).write(client.clone(), stop.clone()));
    }
    let mut results = Results::default();
    while let Some(ended) = writers.join_next().await {
        match ended {
            Ok(one) => results.join(one),
            Err(error) => results.add(Err(error.to_string())),
        }
    }
    results.summary(start.elapsed())
}

impl Load {
    /// Writes with one client.
    async fn write(self: Arc<Load>, client: Client, mut stop: watch::Receiver<bool>) -> Results {
        let mut results = Results::default();
        while let Some((number, at)) = self.next() {
            tokio::select! {
                biased;
                // An error means that the sender is gone, so the load cannot be stopped any more.
                Ok(_) = stop.wait_for(|stops| *stops) => break,
                () = tokio::time::sleep_until(at) => {}
            }
            let start = Instant::now();
            let written = client.put(self.pairs.pair(self.numbers.hash_one(number))).await;
            results.add(written.map(|_| start.elapsed()).map_err(|error| error.to_string()));
            self.show(start);
        }
        results
    }

    fn next(&self) -> Option<(u64, Instant)> {
        let mut schedule = self.schedule.lock().unwrap_or_else(PoisonError::into_inner);
        let at = schedule.take(Instant::now())?;
        Some((schedule.given, at))
    }

    fn show(&self, now: Instant) {
        let schedule = self.schedule.lock().unwrap_or_else(PoisonError::into_inner);
        match schedule.pace {
            Pace::Rate { .. } => self.bar.set((now - schedule.start).as_secs()),
            Pace::Count(_) => self.bar.add(),
        }
    }
}

impl Pairs {
    /// The write of the key with this number.
    fn pair(&self, number: u64) -> PutRequest {
        let mut key = self.prefix.clone();
        varint::put(&mut key, number);
        key.resize(self.prefix.len() + self.key_bytes, 0);
        let value = vec![0; self.value_bytes];
        PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(per_second: u32, seconds: u64) -> (Schedule, Instant) {
        let start = Instant::now();
        let pace = Pace::Rate { per_second, time: Duration::from_secs(seconds) };
        (Schedule::new(pace, start), start)
    }

    #[test]
    fn a_rate_is_kept_by_clients_that_ask_early() {
        let (mut schedule, start) = every(1000, 2);
        let given: Vec<_> = std::iter::from_fn(|| schedule.take(start)).collect();
        assert_eq!(given.len(), 2000);
        assert_eq!(given[0], start);
        assert_eq!(given[1999] - start, Duration::from_millis(1999));
    }

    #[test]
    fn a_little_time_is_made_up_and_much_is_lost() {
        let (mut schedule, start) = every(1000, 2);
        assert_eq!(schedule.take(start), Some(start));
        // The writes due at 1 to 5 ms are sent late, the one due at 6 ms in time.
        let now = start + Duration::from_millis(5);
        let late = std::iter::from_fn(|| schedule.take(now)).take_while(|at| *at <= now).count();
        assert_eq!(late, 5);
        // After a second in which no client was free, only the last milliseconds are made up for.
        let now = start + Duration::from_secs(1);
        let late = std::iter::from_fn(|| schedule.take(now)).take_while(|at| *at <= now).count();
        assert_eq!(late, 11);
        assert_eq!(schedule.take(start + Duration::from_secs(3)), None);
    }

    #[test]
    fn a_count_is_given_out_without_waiting() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Pace::Count(3), start);
        let later = start + Duration::from_secs(9);
        let given: Vec<_> = std::iter::from_fn(|| schedule.take(later)).collect();
        assert_eq!(given, [later; 3]);
    }

    #[test]
    fn pairs_have_the_sizes_and_the_prefix() {
        let pairs = Pairs { prefix: b"p/".to_vec(), key_bytes: 256, value_bytes: 1024 };
        let put = pairs.pair(300);
        assert_eq!((put.key.len(), put.value.len()), (258, 1024));
        assert_eq!(put.key[..5], *b"p/\xac\x02\0");
        assert_ne!(put.key, pairs.pair(301).key);
        assert_eq!(pairs.pair(u64::MAX).key.len(), 258);
    }
}

//! Many clients that send requests on one schedule.

use crate::results::{Results, Start};
use crate::schedule::{Pace, Schedule};
use std::sync::{Arc, Mutex, PoisonError};
use terminal::{Bar, Unit};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A load that is running.
struct Load {
    schedule: Mutex<Schedule>,
    pace: Pace,
    start: Start,
    bar: Option<Bar>,
}

/// Sends requests with all clients until all are sent or `stop` becomes true, and draws a progress
/// bar. `request` sends one with this client and this number; the numbers start at 0.
pub async fn run<C, R, F>(
    clients: Vec<C>,
    pace: Pace,
    stop: &watch::Receiver<bool>,
    request: R,
) -> Results
where
    C: Clone + Send + 'static,
    R: Fn(C, u64) -> F + Clone + Send + 'static,
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let total = pace.count.or_else(|| pace.time.map(|time| time.as_secs())).unwrap_or_default();
    let load = Load::new(pace, Some(Bar::start(total, Unit::Steps)));
    load.run(clients, stop, request).await
}

/// As [`run`], without a progress bar.
pub async fn run_quietly<C, R, F>(
    clients: Vec<C>,
    pace: Pace,
    stop: &watch::Receiver<bool>,
    request: R,
) -> Results
where
    C: Clone + Send + 'static,
    R: Fn(C, u64) -> F + Clone + Send + 'static,
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    Load::new(pace, None).run(clients, stop, request).await
}

/// Sends requests with one client.
async fn send<C, R, F>(
    load: Arc<Load>,
    client: C,
    mut stop: watch::Receiver<bool>,
    request: R,
) -> Results
where
    C: Clone,
    R: Fn(C, u64) -> F,
    F: Future<Output = Result<(), String>>,
{
    let mut results = Results::since(load.start);
    while let Some((number, at)) = load.next() {
        tokio::select! {
            biased;
            // An error means that the sender is gone, so the load cannot be stopped any more.
            Ok(_) = stop.wait_for(|stops| *stops) => break,
            () = load.wait(at) => {}
        }
        let sent = Instant::now();
        let done = request(client.clone(), number).await;
        results.add(sent, done.map(|()| sent.elapsed()));
        load.show();
    }
    results
}

impl Load {
    fn new(pace: Pace, bar: Option<Bar>) -> Arc<Load> {
        let start = Start::now();
        let schedule = Mutex::new(Schedule::new(pace, start.instant));
        Arc::new(Load { schedule, pace, start, bar })
    }

    async fn run<C, R, F>(
        self: Arc<Load>,
        clients: Vec<C>,
        stop: &watch::Receiver<bool>,
        request: R,
    ) -> Results
    where
        C: Clone + Send + 'static,
        R: Fn(C, u64) -> F + Clone + Send + 'static,
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let mut senders = JoinSet::new();
        for client in clients {
            let load = Arc::clone(&self);
            senders.spawn(send(load, client, stop.clone(), request.clone()));
        }
        let mut results = Results::since(self.start);
        while let Some(ended) = senders.join_next().await {
            match ended {
                Ok(one) => results.join(one),
                Err(error) => results.fail(error.to_string()),
            }
        }
        results
    }

    fn next(&self) -> Option<(u64, Instant)> {
        let mut schedule = self.schedule.lock().unwrap_or_else(PoisonError::into_inner);
        schedule.take(Instant::now())
    }

    async fn wait(&self, at: Instant) {
        // Without a rate, no timer is set.
        if self.pace.per_second.is_some() {
            tokio::time::sleep_until(at).await;
        }
    }

    fn show(&self) {
        let Some(bar) = &self.bar else { return };
        match self.pace.count {
            Some(_) => bar.add(),
            None => bar.set(self.start.instant.elapsed().as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn each_request_is_sent_once_and_counted() {
        let (_sender, never) = watch::channel(false);
        let sent = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sent);
        let pace = Pace { count: Some(20), per_second: Some(100), time: None };
        let results = run(vec!["a", "b"], pace, &never, move |client, number| {
            seen.lock().unwrap().push((number, client));
            async move {
                tokio::time::sleep(Duration::from_millis(3)).await;
                if number == 7 { Err("seven".to_string()) } else { Ok(()) }
            }
        })
        .await;
        let mut numbers: Vec<_> = sent.lock().unwrap().iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..20).collect::<Vec<_>>());
        let statistics = results.statistics();
        assert_eq!(statistics.times.len(), 19);
        assert_eq!(statistics.errors["seven"], 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_stops() {
        let (_sender, stopped) = watch::channel(true);
        let results = run(vec![()], Pace::default(), &stopped, |(), _| async { Ok(()) }).await;
        assert!(results.samples.is_empty());
    }
}

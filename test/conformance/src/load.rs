//! Writers, one for each member. They write one key after the other while the members change.

use crate::cluster::Node;
use anyhow::{Result, ensure};
use proto::etcdserverpb::{PutRequest, RangeRequest};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How long a writer may be without an answer.
const PATIENCE: Duration = Duration::from_secs(40);
/// The time between two writes of one writer.
const PAUSE: Duration = Duration::from_millis(5);
/// The pause after a failure.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct Shared {
    acknowledged: Mutex<BTreeSet<String>>,
    failures: Mutex<Vec<String>>,
}

#[derive(Debug)]
struct Writer {
    name: String,
    stop: Arc<AtomicBool>,
    /// The number of answered writes, including errors.
    answers: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

/// All writers.
#[derive(Debug, Default)]
pub struct Load {
    shared: Arc<Shared>,
    writers: Vec<Writer>,
}

impl Load {
    /// Starts a writer for this member.
    ///
    /// # Errors
    /// Never, since the URL is valid.
    pub fn begin(&mut self, node: &Node) -> Result<()> {
        let mut kv = node.kv()?;
        let (shared, name) = (Arc::clone(&self.shared), node.name.clone());
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, answered) = (Arc::clone(&stop), Arc::clone(&answers));
        let writer = name.clone();
        let task = tokio::spawn(async move {
            for n in 0_u64.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let key = format!("load/{name}/{n:08}");
                let value = format!("{n}").into();
                let put = PutRequest { key: key.clone().into(), value, ..PutRequest::default() };
                match kv.put(put).await {
                    Ok(_) => {
                        lock(&shared.acknowledged).insert(key);
                        answered.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(PAUSE).await;
                    }
                    Err(status) => {
                        lock(&shared.failures).push(format!("{name}: {status}"));
                        answered.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                    }
                }
            }
        });
        self.writers.push(Writer { name: writer, stop, answers, task });
        Ok(())
    }

    /// Ends the writer of a member, after its last answer.
    ///
    /// # Errors
    /// When it has panicked.
    pub async fn end(&mut self, node: &Node) -> Result<()> {
        while let Some(at) = self.writers.iter().position(|writer| writer.name == node.name) {
            let writer = self.writers.remove(at);
            writer.stop.store(true, Ordering::Relaxed);
            writer.task.await?;
        }
        Ok(())
    }

    /// Waits until each writer has had two more answers, so that all requests in flight have ended.
    /// Returns the failures since the last call.
    ///
    /// # Errors
    /// When a writer gets no answers.
    pub async fn settle(&self) -> Result<Vec<String>> {
        let deadline = Instant::now() + PATIENCE;
        let answers = |writer: &Writer| writer.answers.load(Ordering::Relaxed);
        let before: Vec<u64> = self.writers.iter().map(answers).collect();
        while self.writers.iter().map(answers).zip(&before).any(|(now, then)| now < then + 2) {
            ensure!(Instant::now() < deadline, "a writer gets no answers");
            tokio::time::sleep(PAUSE).await;
        }
        Ok(std::mem::take(&mut lock(&self.shared.failures)))
    }

    /// How many writes were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        lock(&self.shared.acknowledged).len()
    }

    /// Checks that a member has every acknowledged write.
    ///
    /// # Errors
    /// When it has not.
    pub async fn check(&self, node: &Node) -> Result<()> {
        let request = RangeRequest {
            key: "load/".into(),
            range_end: "load0".into(),
            keys_only: true,
            ..RangeRequest::default()
        };
        let mut kv = node.kv()?.max_decoding_message_size(usize::MAX);
        let found = kv.range(request).await?.into_inner().kvs;
        let found: BTreeSet<&[u8]> = found.iter().map(|kv| &kv.key[..]).collect();
        let acknowledged = lock(&self.shared.acknowledged);
        let lost = acknowledged.iter().find(|key| !found.contains(key.as_bytes()));
        ensure!(lost.is_none(), "{} has lost {lost:?}", node.name);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

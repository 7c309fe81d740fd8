//! Clients that write and read a few keys, each through one member.

use super::group::{Group, MEMBERS};
use super::record::Record;
use anyhow::Result;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sim::kv::calls::{Condition, KvCall, Operation, Part};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// The clients of each member.
const CLIENTS: usize = 2;
/// The number of keys.
const KEYS: u32 = 8;
/// The pause between the calls of a client. It keeps the history short enough for the search at the
/// end.
const PAUSE: Duration = Duration::from_millis(20);
/// The pause after a call without an answer.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);
/// The first letters of the keys, and the end of their range.
pub(super) const RANGE: (&[u8], &[u8]) = (b"k/", b"k0");

/// The clients.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) record: Arc<Record>,
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Load {
    pub(super) fn start(group: &Group, seed: u64) -> Result<Load> {
        let record = Arc::new(Record::new(Arc::clone(&group.probes)));
        let mut load = Load { record, stop: Arc::default(), clients: JoinSet::new() };
        for number in 0..MEMBERS * CLIENTS {
            let client = Client {
                number: u32::try_from(number)?,
                channel: group.nodes[number % MEMBERS].channel()?,
                rng: StdRng::seed_from_u64(seed.wrapping_mul(1000).wrapping_add(number as u64)),
                record: Arc::clone(&load.record),
                known: BTreeMap::new(),
            };
            load.clients.spawn(client.run(Arc::clone(&load.stop)));
        }
        Ok(load)
    }

    /// Ends the clients, after their calls have ended.
    pub(super) async fn end(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended?;
        }
        Ok(())
    }
}

struct Client {
    number: u32,
    channel: Channel,
    rng: StdRng,
    record: Arc<Record>,
    /// The value that each key had when this client saw it last.
    known: BTreeMap<Bytes, Bytes>,
}

impl Client {
    async fn run(mut self, stop: Arc<AtomicBool>) {
        for turn in 0_u64.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let call = self.choose(turn);
            let answer = self.record.call(self.number, &self.channel, call.clone()).await;
            let Some(answer) = answer else {
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                continue;
            };
            let done = if answer.succeeded { &call.then } else { &call.otherwise };
            for (operation, part) in done.iter().zip(&answer.parts) {
                match (operation, part) {
                    (Operation::Put(key, value), _) => {
                        self.known.insert(key.clone(), value.clone());
                    }
                    (_, Part::Keys(keys)) => {
                        let values =
                            keys.iter().map(|(key, seen)| (key.clone(), seen.value.clone()));
                        self.known.extend(values);
                    }
                    _ => {}
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn key(&mut self) -> Bytes {
        format!("k/{:02}", self.rng.random_range(0..KEYS)).into()
    }

    fn choose(&mut self, turn: u64) -> KvCall {
        let key = self.key();
        let value = Bytes::from(format!("{}-{turn}", self.number));
        match self.rng.random_range(0..100) {
            0..35 => KvCall::one(Operation::Put(key, value)),
            35..65 => KvCall::one(Operation::Get(key)),
            65..85 => {
                let from = self.known.get(&key).cloned().unwrap_or_default();
                KvCall {
                    conditions: vec![Condition::Value(key.clone(), from)],
                    then: vec![Operation::Put(key.clone(), value)],
                    otherwise: vec![Operation::Get(key)],
                }
            }
            85..90 => KvCall::one(Operation::Delete(key)),
            90..95 => {
                let read = self.key();
                let then = vec![Operation::Put(key, value), Operation::Get(read)];
                KvCall { then, ..KvCall::default() }
            }
            _ => KvCall::one(Operation::Range(
                Bytes::from_static(RANGE.0),
                Bytes::from_static(RANGE.1),
            )),
        }
    }
}

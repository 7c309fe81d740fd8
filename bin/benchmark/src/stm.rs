//! `stm`.
//!
//! Source: etcd v3.7.1 tools/benchmark/cmd/stm.go.

use crate::bench::{Bench, never};
use crate::failure::{CommandResult, Failure};
use crate::keys::{Keys, Random};
use crate::output;
use bytes::Bytes;
use client::{Client, Error, Isolation, Mutex, Session, Stm};
use proto::v3lockpb::{LockRequest, UnlockRequest};
use std::sync::Arc;

const KEY_BYTES: usize = 16;
const LOCK: &str = "stmlock";

/// What each transaction is wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Locker {
    Nothing,
    /// The mutex of the client.
    Client,
    /// The lock service of the server.
    Service,
}

/// The transactions of a load.
struct Workload {
    isolation: Isolation,
    keys: Keys,
    keys_per_txn: u64,
    /// The number of keys that a transaction writes.
    writes: u64,
    value_bytes: usize,
    random: Random,
}

/// A client, with the session whose lease its locks have.
#[derive(Clone)]
struct Worker {
    client: Client,
    session: Option<Arc<Session>>,
}

pub(crate) async fn stm(bench: &mut Bench) -> CommandResult {
    let workload = Arc::new(workload(bench)?);
    let locker = match bench.flags.text("stm-locker").as_str() {
        "stm" => Locker::Nothing,
        "lock-client" => Locker::Client,
        "lock-rpc" => Locker::Service,
        other => {
            let shown = cli::go::quote(other.as_bytes());
            return Err(format!("unexpected stm locker {shown}").into());
        }
    };
    let pace = bench.pace()?;
    let mut workers = Vec::new();
    for client in bench.clients().await? {
        let session = match locker {
            Locker::Nothing => None,
            Locker::Client | Locker::Service => Some(Arc::new(Session::new(&client).await?)),
        };
        workers.push(Worker { client, session });
    }
    let request = move |worker: Worker, number| {
        let workload = Arc::clone(&workload);
        async move {
            let done = workload.locked(&worker, locker, number).await;
            done.map_err(|error| error.to_string())
        }
    };
    let results = load::run(workers, pace, &never(), request).await;
    output::text(&bench.report("stm", results)?);
    Ok(())
}

fn workload(bench: &Bench) -> CommandResult<Workload> {
    let count = bench.at_least("keys", 1)?;
    let percent = bench.flags.int("txn-wr-percent");
    let Some(percent) = u64::try_from(percent).ok().filter(|percent| *percent <= 100) else {
        return Err(format!("expected [0, 100] --txn-wr-percent, got ({percent})").into());
    };
    let keys_per_txn = bench.flags.int("keys-per-txn");
    let Some(keys_per_txn) = u64::try_from(keys_per_txn).ok().filter(|keys| *keys <= count) else {
        return Err(
            format!("expected --keys-per-txn between 0 and {count}, got ({keys_per_txn})").into()
        );
    };
    let isolation = match bench.flags.text("isolation").as_str() {
        "c" => Isolation::ReadCommitted,
        "r" => Isolation::RepeatableReads,
        "s" => Isolation::Serializable,
        "ss" => Isolation::SerializableSnapshot,
        _ => return Err(Failure::Misused),
    };
    Ok(Workload {
        isolation,
        keys: Keys::new(KEY_BYTES, count)?,
        keys_per_txn,
        writes: keys_per_txn * percent / 100,
        value_bytes: bench.size("val-size"),
        random: Random::new(),
    })
}

impl Workload {
    async fn locked(&self, worker: &Worker, locker: Locker, number: u64) -> Result<(), Error> {
        let (Some(session), true) = (&worker.session, locker != Locker::Nothing) else {
            return self.transact(&worker.client, number).await;
        };
        if locker == Locker::Client {
            let mut mutex = Mutex::new(session, LOCK);
            mutex.lock().await?;
            let done = self.transact(&worker.client, number).await;
            return mutex.unlock().await.and(done);
        }
        let request = LockRequest { name: LOCK.into(), lease: session.lease() };
        let key = worker.client.lock(request).await?.key;
        let done = self.transact(&worker.client, number).await;
        worker.client.unlock(UnlockRequest { key }).await.and(done)
    }

    /// Reads some keys and writes a part of them, until there is no conflict.
    async fn transact(&self, client: &Client, number: u64) -> Result<(), Error> {
        let keys = self.keys_of(number);
        let mut stm = Stm::new(client, self.isolation);
        loop {
            for (index, key) in (0..).zip(&keys) {
                stm.get(key).await?;
                if index < self.writes {
                    stm.put(key.clone(), self.random.bytes(self.value_bytes));
                }
            }
            if stm.commit().await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Different keys, which follow a random one.
    fn keys_of(&self, number: u64) -> Vec<Bytes> {
        let first = self.random.below(number, self.keys.space());
        (first..first + self.keys_per_txn).map(|number| self.keys.key(number)).collect()
    }
}

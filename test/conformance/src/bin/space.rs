//! Measures how the database file shrinks under load: fills it, deletes nine of ten keys, compacts,
//! and then measures the size of the file and the latency of puts.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::{Context, Result, ensure};
use clap::Parser;
use conformance::server::Server;
use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, StatusRequest, StatusResponse,
    TxnRequest, request_op::Request,
};
use rpc::stubs::etcdserverpb::{kv_client::KvClient, maintenance_client::MaintenanceClient};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tonic::transport::Channel;

/// The length of a value in bytes.
const VALUE_BYTES: usize = 256;
/// The number of connections, and of tasks that fill and delete.
const TASKS: u64 = 32;
/// The bytes of a leaf for each encoded key-value: the element, and the key, which is a revision.
const ITEM_BYTES: u64 = 16 + 17;
/// The time limit for the file to shrink.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Deletes nine tenths of a database under load and waits until the file shrinks.
#[derive(Debug, Parser)]
struct Args {
    /// The server's program.
    #[arg(long)]
    ours: PathBuf,
    /// The initial number of keys.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// The number of clients that put keys during the run, each one after the other.
    #[arg(long, default_value_t = 16)]
    loaders: u64,
}

fn key(number: u64) -> Vec<u8> {
    format!("/registry/things/{number:012}").into_bytes()
}

fn put(number: u64) -> PutRequest {
    let value = number.to_le_bytes().repeat(VALUE_BYTES / 8);
    PutRequest { key: key(number).into(), value: value.into(), ..PutRequest::default() }
}

fn is_kept(number: u64) -> bool {
    number.is_multiple_of(10)
}

/// Calls `each` for all numbers below `count`, on [`TASKS`] tasks.
async fn for_all<F>(
    server: &Server,
    count: u64,
    each: impl Fn(KvClient<Channel>, u64) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let gate = Arc::new(tokio::sync::Semaphore::new(usize::try_from(TASKS * 8)?));
    let mut clients = Vec::new();
    for _ in 0..TASKS {
        clients.push(KvClient::new(server.connect().await?));
    }
    let mut tasks = tokio::task::JoinSet::new();
    for (number, client) in (0..count).zip(clients.iter().cycle()) {
        let permit = Arc::clone(&gate).acquire_owned().await?;
        let work = each(client.clone(), number);
        tasks.spawn(async move {
            let done = work.await;
            drop(permit);
            done
        });
        while let Some(done) = tasks.try_join_next() {
            done??;
        }
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// Overwrites the kept keys one after the other until it is stopped. Returns the latencies.
async fn load(
    server: &Server,
    keys: u64,
    first: u64,
    stop: Arc<AtomicBool>,
) -> Result<Vec<Duration>> {
    let mut kv = KvClient::new(server.connect().await?);
    let mut took = Vec::new();
    let mut number = first;
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        kv.put(put(number)).await?;
        took.push(begun.elapsed());
        number = (number + 10) % keys;
    }
    Ok(took)
}

fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took.get(took.len() * 99 / 100).copied().unwrap_or_default()
}

async fn status(server: &Server) -> Result<StatusResponse> {
    let mut maintenance = MaintenanceClient::new(server.connect().await?);
    Ok(maintenance.status(StatusRequest {}).await?.into_inner())
}

/// Deletes all but the kept keys, in transactions that cover a thousand numbers each.
async fn delete(server: &Server, keys: u64) -> Result<()> {
    for_all(server, keys / 1000, |mut kv, thousand| async move {
        let ranges = (0..100).map(|ten| thousand * 1000 + ten * 10).map(|first| RequestOp {
            request: Some(Request::RequestDeleteRange(DeleteRangeRequest {
                key: key(first + 1).into(),
                range_end: key(first + 10).into(),
                prev_kv: false,
            })),
        });
        let txn = TxnRequest { success: ranges.collect(), ..TxnRequest::default() };
        kv.txn(txn).await?;
        Ok(())
    })
    .await
}

/// The bytes that one version of a key takes in the file.
fn version_bytes() -> u64 {
    use prost::Message as _;
    let kv = proto::mvccpb::KeyValue {
        key: key(0).into(),
        value: put(0).value,
        create_revision: 1 << 20,
        mod_revision: 1 << 20,
        version: 1,
        lease: 0,
    };
    kv.encoded_len() as u64 + ITEM_BYTES
}

#[expect(clippy::cast_precision_loss, reason = "ratios to print")]
fn ratio(left: u64, right: u64) -> f64 {
    left as f64 / right as f64
}

/// Runs `work` under load. Returns its result and the 99th percentile of the put latencies.
async fn under_load<T>(
    server: &Arc<Server>,
    args: &Args,
    work: impl Future<Output = Result<T>>,
) -> Result<(T, Duration)> {
    let keys = args.keys;
    let stop = Arc::new(AtomicBool::new(false));
    let spawn = |loader: u64| {
        let (loaded, told) = (Arc::clone(server), Arc::clone(&stop));
        let first = keys / args.loaders * loader / 10 * 10;
        tokio::spawn(async move { load(&loaded, keys, first, told).await })
    };
    let loads: Vec<_> = (0..args.loaders).map(spawn).collect();
    let done = work.await;
    stop.store(true, Ordering::Relaxed);
    let mut took = Vec::new();
    for load in loads {
        took.extend(load.await??);
    }
    Ok((done?, p99(took)))
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let server = Server::start(&args.ours, &["--quota-backend-bytes", "8589934592"]).await?;
    let server = Arc::new(server);
    for_all(&server, args.keys, |mut kv, number| async move {
        kv.put(put(number)).await?;
        Ok(())
    })
    .await?;
    let full = status(&server).await?;
    println!("{} keys: {} bytes", args.keys, full.db_size);
    let calm = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        Ok(())
    };
    let ((), before) = under_load(&server, &args, calm).await?;
    delete(&server, args.keys).await?;
    let shrinking = async {
        let mut kv = KvClient::new(server.connect().await?);
        let revision = status(&server).await?.header.context("no header")?.revision;
        let begun = Instant::now();
        kv.compact(CompactionRequest { revision, physical: true }).await?;
        println!("the compaction took {:.1} s", begun.elapsed().as_secs_f64());
        loop {
            let size = server.db_file().metadata()?.len();
            // The versions that the load has put since are live, too.
            let since = status(&server).await?.header.context("no header")?.revision - revision;
            let kept = (0..args.keys).filter(|number| is_kept(*number)).count() as u64;
            let live = (kept + u64::try_from(since)?) * version_bytes();
            if ratio(size, live) <= 1.5 || begun.elapsed() > TIME_MAX {
                return Ok((size, live, begun.elapsed()));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let ((size, live, took), during) = under_load(&server, &args, shrinking).await?;
    println!(
        "{size} bytes for {live} that are live ({:.2} times) {:.1} s after the compaction; puts took \
         {before:.1?} before and {during:.1?} meanwhile (p99, {:.2} times)",
        ratio(size, live),
        took.as_secs_f64(),
        during.as_secs_f64() / before.as_secs_f64(),
    );
    ensure!(ratio(size, live) <= 1.5, "the file is too large after {TIME_MAX:?}");
    Ok(())
}

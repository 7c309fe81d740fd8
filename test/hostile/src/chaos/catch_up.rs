//! A member that was down for long catches up while the others serve.

use super::group::{Group, MEMBERS, Plan};
use crate::memory::{PeakMemory, anonymous, forget_peak, peak, resident};
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use proto::etcdserverpb::{PutRequest, RangeRequest};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const MIB: u64 = 1024 * 1024;
/// The size of a value.
const VALUE_BYTES: usize = 64 * 1024;
/// One of this many writes overwrites one of a few keys. All others have keys of their own.
const OVERWRITES: u64 = 8;
/// How many writes are in flight at once.
const WRITERS: u64 = 8;
/// The pause of a light writer between two writes.
const PAUSE: Duration = Duration::from_millis(10);
/// How long the light writers write before the member is started.
const BASELINE: Duration = Duration::from_secs(5);
/// How long a server may take to come to rest after the load.
const REST: Duration = Duration::from_secs(10);
/// How long the member may take to catch up.
const PATIENCE: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(50);
/// The memory that each end may use in addition to its memory at rest.
const MEMORY_MAX: u64 = 200 * MIB;

/// A run of this mode.
#[derive(Clone, Debug)]
pub struct CatchUp {
    /// The members.
    pub plan: Plan,
    /// How much is written while one is down.
    pub mib: u64,
}

/// The memory of a process at one time, in bytes.
#[derive(Clone, Copy, Debug)]
struct Memory {
    resident: u64,
    anonymous: u64,
}

impl Memory {
    fn of(pid: u32) -> Result<Memory> {
        Ok(Memory { resident: resident(pid)?, anonymous: anonymous(pid)? })
    }

    /// A line of the report. `self` is the memory at rest, the other two are peaks.
    fn row(self, name: &str, resident: u64, anonymous: u64) -> String {
        format!(
            "{name}: {} MiB at rest, peak {} MiB, {} MiB above; without mapped files {} MiB, peak \
             {} MiB, {} MiB above",
            self.resident / MIB,
            resident / MIB,
            resident.saturating_sub(self.resident) / MIB,
            self.anonymous / MIB,
            anonymous / MIB,
            anonymous.saturating_sub(self.anonymous) / MIB
        )
    }
}

impl CatchUp {
    /// Runs it. Returns a report.
    ///
    /// # Errors
    /// When a check fails. The members' directories are then kept, and named in the error.
    pub async fn run(&self) -> Result<String> {
        let mut group = Group::start(&self.plan).await?;
        let ended = self.run_with(&mut group).await;
        group.kept_if_failed(ended)
    }

    async fn run_with(&self, group: &mut Group) -> Result<String> {
        let leader = group.agreed_leader().await?;
        let (behind, other) = ((leader + 1) % MEMBERS, (leader + 2) % MEMBERS);
        tokio::time::sleep(BASELINE).await;
        let empty = Memory::of(group.nodes[behind].pid().context("it runs")?)?;
        group.kill(behind)?;
        let filling = Instant::now();
        self.fill(group, leader).await?;
        let filled = filling.elapsed();
        tokio::time::sleep(REST).await;
        ensure!(group.nodes[leader].status().await?.leader == group.nodes[leader].id, "it leads");
        let sender = group.nodes[leader].pid().context("it runs")?;
        let rest = Memory::of(sender)?;
        let calm = Light::start(group, &[leader, other])?;
        tokio::time::sleep(BASELINE).await;
        let calm = calm.end().await?;
        let light = Light::start(group, &[leader, other])?;
        forget_peak(sender)?;
        let sent = PeakMemory::watch_anonymous(sender);
        let target = revision(group, leader).await?;
        let began = Instant::now();
        group.start_member(behind)?;
        let receiver = group.nodes[behind].pid().context("it runs")?;
        let received = PeakMemory::watch_anonymous(receiver);
        wait_for(group, behind, target).await?;
        let took = began.elapsed();
        let busy = light.end().await?;
        group.served().await?;
        let (sent_high, received_high) = (peak(sender)?, peak(receiver)?);
        let (sent, received) = (sent.end(), received.end());
        let hash = equal_hash(group, leader).await?;
        group.check_logs()?;
        let how = if group.nodes[behind].has_logged("successfully saved database snapshot") {
            "by a snapshot"
        } else {
            "by the log"
        };
        let database = group.nodes[behind].status().await?.db_size / (1 << 20);
        let report = format!(
            "{} MiB written in {:.1} s; the member was behind and caught up in {:.1} s, {how}; \
             its database has {database} MiB\n\
             {}\n{}\nlight writes before:    {}\nlight writes meanwhile: {}\n\
             HashKV {hash:08x} at all members",
            self.mib,
            filled.as_secs_f64(),
            took.as_secs_f64(),
            rest.row("sender", sent_high, sent),
            empty.row("receiver", received_high, received),
            calm.text(),
            busy.text()
        );
        let above = (sent_high.saturating_sub(rest.resident))
            .max(received_high.saturating_sub(empty.resident));
        ensure!(busy.failed == 0, "{} light writes failed:\n{report}", busy.failed);
        ensure!(above < MEMORY_MAX, "more than {} MiB above rest:\n{report}", MEMORY_MAX / MIB);
        Ok(report)
    }

    /// Writes so many MiB through the leader.
    async fn fill(&self, group: &Group, leader: usize) -> Result<()> {
        let writes = self.mib * MIB / VALUE_BYTES as u64;
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let mut kv = group.nodes[leader].kv()?;
            writers.push(tokio::spawn(async move {
                for number in (writer..writes).step_by(usize::try_from(WRITERS)?) {
                    let key = if (number / WRITERS).is_multiple_of(OVERWRITES) {
                        format!("few/{writer}")
                    } else {
                        format!("many/{number:08}")
                    };
                    // Values that differ and do not compress well.
                    let block = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
                    let value: Vec<u8> = block.iter().copied().cycle().take(VALUE_BYTES).collect();
                    let put =
                        PutRequest { key: key.into(), value: value.into(), ..Default::default() };
                    kv.put(put).await?;
                }
                anyhow::Ok(())
            }));
        }
        for writer in writers {
            writer.await??;
        }
        Ok(())
    }
}

/// Writes, waits until all members have applied the write, and compares their hashes.
async fn equal_hash(group: &Group, through: usize) -> Result<u32> {
    let last = group.probes.write(through).await?;
    let mut hashes = Vec::new();
    for (at, node) in group.nodes.iter().enumerate() {
        wait_for(group, at, last).await?;
        hashes.push(node.hash(last).await?);
    }
    ensure!(hashes.iter().all(|hash| *hash == hashes[0]), "hashes differ: {hashes:x?}");
    Ok(hashes[0])
}

/// The revision of a member's own store.
async fn revision(group: &Group, at: usize) -> Result<i64> {
    let request = RangeRequest {
        key: Bytes::from_static(b"x"),
        serializable: true,
        ..RangeRequest::default()
    };
    let answer = group.nodes[at].kv()?.range(request).await?.into_inner();
    Ok(answer.header.context("no header")?.revision)
}

async fn wait_for(group: &Group, at: usize, target: i64) -> Result<()> {
    let began = Instant::now();
    loop {
        let now = timeout(Duration::from_secs(2), revision(group, at)).await;
        if matches!(now, Ok(Ok(now)) if now >= target) {
            return Ok(());
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "m{at} has not reached revision {target} but {now:?}; its log:\n{}",
            group.nodes[at].last_lines()
        );
        tokio::time::sleep(POLL).await;
    }
}

/// The results of light writers.
#[derive(Debug, Default)]
struct LightWrites {
    took: Vec<Duration>,
    failed: u64,
    /// The text of the last failure.
    why: String,
}

impl LightWrites {
    fn text(&self) -> String {
        let mut took: Vec<u128> = self.took.iter().map(Duration::as_micros).collect();
        took.sort_unstable();
        let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or(0) / 1000;
        format!(
            "{} acknowledged, {} failed{}; p50 {} ms, p99 {} ms, largest {} ms",
            took.len(),
            self.failed,
            self.why,
            at(50),
            at(99),
            took.last().copied().unwrap_or(0) / 1000
        )
    }
}

/// Writers of small values, one for each of these members.
struct Light {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<LightWrites>>,
}

impl Light {
    fn start(group: &Group, through: &[usize]) -> Result<Light> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = Vec::new();
        for at in through {
            let (mut kv, stop) = (group.nodes[*at].kv()?, Arc::clone(&stop));
            let key = Bytes::from(format!("light/{at}"));
            writers.push(tokio::spawn(async move {
                let mut writes = LightWrites::default();
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let value = Bytes::from_static(b"a small value");
                    let put = PutRequest { key: key.clone(), value, ..PutRequest::default() };
                    match kv.put(put).await {
                        Ok(_) => writes.took.push(began.elapsed()),
                        Err(status) => {
                            writes.failed += 1;
                            writes.why = format!(" ({status})");
                        }
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                writes
            }));
        }
        Ok(Light { stop, writers })
    }

    async fn end(self) -> Result<LightWrites> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = LightWrites::default();
        for writer in self.writers {
            let writes = writer.await?;
            all.took.extend(writes.took);
            all.failed += writes.failed;
            all.why += &writes.why;
        }
        Ok(all)
    }
}

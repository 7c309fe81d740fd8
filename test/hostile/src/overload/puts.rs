//! Clients that put until the quota is reached, and continue. Whenever the alarm NOSPACE is raised,
//! an operator compacts, defragments and disarms it, as etcd's documentation says.

use crate::upload::Uploader;
use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use client::{Client, Config};
use proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, CompactionRequest, DefragmentRequest, RangeRequest,
    alarm_request::AlarmAction,
};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

const CONNECTIONS: usize = 32;
/// Puts in flight on each connection.
const STREAMS: usize = 4;
pub(super) const VALUE: usize = 16 * 1024;
pub(super) const KEYS: u32 = 2_000;
const PAUSE: Duration = Duration::from_millis(1);
/// How often the operator looks.
const LOOK: Duration = Duration::from_millis(100);

/// Keeps [`STREAMS`] puts in flight on each connection.
pub(super) fn flood(
    clients: SocketAddr,
    seed: u64,
    stop: &AtomicBool,
    begun: Sender<()>,
) -> Result<String> {
    std::thread::scope(|scope| {
        let operator = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(operate(clients, stop))
        });
        let answered = put(clients, seed, stop, begun);
        // Ends the operator also when the flood has failed.
        stop.store(true, Ordering::Relaxed);
        let disarmed = operator.join().map_err(|_| anyhow!("the operator panicked"))?;
        Ok(format!("{} puts answered, {} alarms disarmed", answered?, disarmed?))
    })
}

fn put(clients: SocketAddr, seed: u64, stop: &AtomicBool, begun: Sender<()>) -> Result<u64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let all: Result<Vec<Uploader>> = (0..CONNECTIONS).map(|_| Uploader::open(clients)).collect();
    let (mut all, value) = (all?, Bytes::from(vec![7; VALUE]));
    drop(begun);
    let mut answered = 0;
    while !stop.load(Ordering::Relaxed) {
        for uploader in &mut all {
            let next = || (format!("flood/{}", rng.random_range(0..KEYS)), value.clone());
            answered += uploader.turn(STREAMS, next);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(answered)
}

/// Frees space and disarms the alarm whenever it is raised. Returns how often.
async fn operate(clients: SocketAddr, stop: &AtomicBool) -> Result<u64> {
    let client = Client::connect(Config::new(vec![clients.to_string()])).await?;
    let client = client.with_timeout(Duration::from_secs(60));
    let mut disarmed = 0;
    loop {
        // Once more after the end, so that the server is left without an alarm.
        let is_last = stop.load(Ordering::Relaxed);
        let request = |action| AlarmRequest { action, ..AlarmRequest::default() };
        let list = client.alarm(request(AlarmAction::Get.into())).await.context("alarm list")?;
        if let Some(alarm) = list.alarms.first() {
            free_space(&client).await?;
            let AlarmMember { member_id, .. } = *alarm;
            let alarm = AlarmType::Nospace.into();
            let action = AlarmAction::Deactivate.into();
            client.alarm(AlarmRequest { action, member_id, alarm }).await.context("disarm")?;
            disarmed += 1;
        }
        if is_last {
            return Ok(disarmed);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn free_space(client: &Client) -> Result<()> {
    let range = RangeRequest { key: "x".into(), ..RangeRequest::default() };
    let answer = client.range(range).await.context("the revision")?;
    let revision = answer.header.map_or(0, |header| header.revision);
    // Another client may have compacted at this revision already.
    drop(client.compact(CompactionRequest { revision, physical: true }).await);
    client.defragment(DefragmentRequest {}).await.context("defragment")?;
    Ok(())
}

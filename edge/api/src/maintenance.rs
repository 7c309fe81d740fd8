//! The Maintenance service: alarms, status, hashes, and the database as a stream.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3rpc/maintenance.go.

use crate::call::{Call, mismatch};
use crate::call_metrics::StreamCounters;
use crate::held::{HeldSource, HoldLimits, held, snapshot_age_max};
use crate::host::{Host, SnapshotFile};
use bytes::{Bytes, BytesMut};
use prost::Message as _;
use proto::answer::Answer;
use proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse,
    DowngradeRequest, DowngradeResponse, HashKvRequest, HashRequest, InternalRaftRequest,
    MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse, StatusRequest,
    alarm_request::AlarmAction,
};
use rpc::body::{Reply, Source, encoded, framed};
use rpc::{Code, Error, Status};
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;

/// The bytes of the file in one message of a snapshot.
const BLOB_LEN: usize = 32 * 1024;
/// How many messages of a snapshot are read ahead. Reading waits until they are sent.
const BLOBS_AHEAD: usize = 4;

pub(crate) async fn alarm<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, request) = call.request(|_: &AlarmRequest| false).await?;
    if request.action == i32::from(AlarmAction::Get) {
        service.host.require_user().await?;
    } else {
        service.host.require_admin().await?;
    }
    alarm_is_known(&request)?;
    let request = InternalRaftRequest { alarm: Some(request), ..InternalRaftRequest::default() };
    let Answer::Alarm { alarms } = service.host.propose(request).await? else {
        return Err(mismatch());
    };
    Ok(encoded(&AlarmResponse { header: service.header(), alarms }))
}

/// An unknown alarm must not be activated: members of etcd 3.5 to 3.7 panic when they apply it. It may
/// be deactivated, because a log of 3.4 may contain one. An unknown action has no answer in etcd,
/// whose API panics on it.
fn alarm_is_known(request: &AlarmRequest) -> Result<(), Status> {
    let Ok(action) = AlarmAction::try_from(request.action) else {
        let why = format!("etcdserver: unknown action {} of an alarm request", request.action);
        return Err(Status::new(Code::InvalidArgument, why));
    };
    if action == AlarmAction::Activate && AlarmType::try_from(request.alarm).is_err() {
        let why = format!("etcdserver: unknown alarm type {}", request.alarm);
        return Err(Status::new(Code::InvalidArgument, why));
    }
    Ok(())
}

pub(crate) async fn status<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, _) = call.request(|_: &StatusRequest| true).await?;
    let mut response = service.host.status();
    response.header = service.header();
    if response.leader == 0 {
        response.errors.push(Error::NoLeader.text().to_owned());
    }
    response.errors.extend(service.host.alarms().iter().map(alarm_text));
    response.downgrade_info.get_or_insert_default();
    Ok(encoded(&response))
}

/// An alarm as Go prints the message.
fn alarm_text(alarm: &AlarmMember) -> String {
    let mut fields = Vec::new();
    if alarm.member_id != 0 {
        fields.push(format!("memberID:{}", alarm.member_id));
    }
    if alarm.alarm != 0 {
        let name = AlarmType::try_from(alarm.alarm)
            .map_or_else(|_| alarm.alarm.to_string(), |alarm| alarm.as_str_name().to_owned());
        fields.push(format!("alarm:{name}"));
    }
    fields.join(" ")
}

pub(crate) async fn defragment<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, _) = call.request(|_: &DefragmentRequest| false).await?;
    service.host.defragment().await?;
    Ok(encoded(&DefragmentResponse { header: None }))
}

pub(crate) async fn move_leader<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, request) = call.request(|_: &MoveLeaderRequest| false).await?;
    service.host.move_leader(request.target_id).await?;
    // etcd leaves the header out.
    Ok(encoded(&MoveLeaderResponse { header: None }))
}

pub(crate) async fn downgrade<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, request) = call.request(|_: &DowngradeRequest| false).await?;
    let version = service.host.downgrade(request).await?;
    Ok(encoded(&DowngradeResponse { header: service.header(), version }))
}

pub(crate) async fn hash<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, _) = call.request(|_: &HashRequest| false).await?;
    let mut response = service.host.hash().await?;
    response.header = service.header();
    Ok(encoded(&response))
}

pub(crate) async fn hash_kv<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, request) = call.request(|_: &HashKvRequest| false).await?;
    let mut response = service.host.hash_kv(request.revision).await?;
    let revision = response.header.map_or(0, |header| header.revision);
    response.header = service.header_or_current(revision);
    Ok(encoded(&response))
}

pub(crate) async fn snapshot<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let deadline = call.deadline;
    let (tally, _) = call.stream_request::<SnapshotRequest>(true).await?;
    let file = tally.service.host.snapshot().await?;
    let limits = HoldLimits { deadline, age_max: snapshot_age_max(file.size()) };
    let (to, from) = mpsc::channel(BLOBS_AHEAD);
    // Reading blocks on the disk and hashing takes long, so both run on a thread of their own.
    tokio::task::spawn_blocking(move || send_file(file, &to));
    Ok(held(Snapshot { tally, from, pieces: VecDeque::new() }, limits))
}

type Blob = Result<SnapshotResponse, Status>;

/// Sends the file in blobs, then its SHA-256. Stops when the receiver is gone.
fn send_file(mut file: Box<dyn SnapshotFile>, to: &mpsc::Sender<Blob>) {
    let version = file.version();
    let mut hasher = Sha256::new();
    let mut remaining = file.size();
    let mut buffer = BytesMut::new();
    loop {
        let last = match file.next() {
            Ok(bytes) => {
                buffer.extend_from_slice(&bytes);
                bytes.is_empty()
            }
            Err(why) => {
                // If the receiver is gone, the error is not needed.
                drop(to.blocking_send(Err(Status::new(Code::Unknown, why))));
                return;
            }
        };
        while buffer.len() >= BLOB_LEN || (last && !buffer.is_empty()) {
            let blob = buffer.split_to(buffer.len().min(BLOB_LEN)).freeze();
            hasher.update(&blob);
            remaining = remaining.saturating_sub(blob.len() as u64);
            if to.blocking_send(Ok(part(remaining, blob, &version))).is_err() {
                return;
            }
        }
        if last {
            break;
        }
    }
    if remaining > 0 {
        let why = format!("retcd: the file ended {remaining} bytes early");
        drop(to.blocking_send(Err(Status::new(Code::DataLoss, why))));
        return;
    }
    let hash = Bytes::copy_from_slice(&hasher.finalize());
    drop(to.blocking_send(Ok(part(0, hash, &version))));
}

fn part(remaining_bytes: u64, blob: Bytes, version: &str) -> SnapshotResponse {
    SnapshotResponse { header: None, remaining_bytes, blob, version: version.to_owned() }
}

struct Snapshot<H> {
    tally: StreamCounters<H>,
    from: mpsc::Receiver<Blob>,
    pieces: VecDeque<Bytes>,
}

impl<H: Host> Source for Snapshot<H> {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Poll::Ready(Some(Ok(piece)));
            }
            match ready!(self.from.poll_recv(cx)) {
                Some(Ok(part)) => {
                    let encoded = part.encode_to_vec();
                    self.tally.sent(1, encoded.len());
                    self.pieces = framed(encoded.len(), |to| to.slice(&encoded)).into();
                }
                Some(Err(status)) => {
                    self.tally.end(status.code);
                    return Poll::Ready(Some(Err(status)));
                }
                None => {
                    self.tally.end(Code::Ok);
                    return Poll::Ready(None);
                }
            }
        }
    }
}

impl<H: Host> HeldSource for Snapshot<H> {
    fn cut_off(&mut self, status: &Status) {
        self.tally.end(status.code);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_written_as_go_writes_the_message() {
        let alarm = AlarmMember { member_id: 17, alarm: AlarmType::Nospace.into() };
        assert_eq!(alarm_text(&alarm), "memberID:17 alarm:NOSPACE");
        assert_eq!(alarm_text(&AlarmMember { member_id: 17, alarm: 0 }), "memberID:17");
    }
}

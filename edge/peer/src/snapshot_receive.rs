//! Receives a message with a snapshot and the database file after it. The file is written under a
//! temporary name, synced, checked, and renamed to `<index>.snap.db`; then the message is passed
//! on. A file that is not a complete database of the snapshot is refused; the sender learns of it
//! and sends a snapshot again later.
//!
//! Source: etcd v3.7 rafthttp/http.go (`snapshotHandler`), snap/db.go (`SaveDBFrom`).

use crate::limits::SNAPSHOT_CHUNKS;
use crate::shared::Shared;
use bytes::Bytes;
use executor::received;
use net::plain::PlainRequest;
use raft::{Body, Message, RaftSnapshot};
use server::metrics::Metrics;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::sync::mpsc;
use vfs::{Mode, Vfs};
use wire::{PeerRefusal, Received, SnapshotHeadDecoder};

/// The prefix of the names of files that are being received. Boot removes such files, too.
const TEMPORARY: &str = "tmp-snap-db-";
/// A database has at least two meta pages of 512 bytes or more.
const BLOCK: u64 = 512;

/// Removes files of interrupted receptions.
pub(crate) fn remove_leftovers(disk: &dyn Vfs, dir: &Path) {
    let Ok(names) = disk.list(dir) else { return };
    for name in names.iter().filter(|name| name.starts_with(TEMPORARY)) {
        if let Err(error) = disk.remove_file(&dir.join(name)) {
            tracing::warn!(name, %error, "cannot remove a part of a received snapshot");
        }
    }
}

/// At most one snapshot is received at a time.
#[derive(Debug, Default)]
pub(crate) struct Reception(AtomicBool);

struct Turn<'a>(&'a AtomicBool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Receives the snapshot of a request and passes its message on.
pub(crate) async fn receive(
    shared: &Shared,
    reception: &Reception,
    request: &mut PlainRequest,
) -> Result<(), PeerRefusal> {
    let (message, first) = read_head(shared, request).await?;
    let Body::Snapshot(snapshot) = &message.body else { return Err(PeerRefusal::WrongType) };
    let index = snapshot.id.index;
    shared.check_ends(&message).map_err(PeerRefusal::ProcessingSnapshot)?;
    if reception.0.swap(true, Ordering::AcqRel) {
        return Err(PeerRefusal::Saving("another snapshot is being received".to_owned()));
    }
    let _turn = Turn(&reception.0);
    let from = format!("{:x}", message.from);
    let snapshots = &shared.counters.metrics.raft.peer_snapshots;
    tracing::info!(
        "remote-snapshot-sender-id" = from,
        "incoming-snapshot-index" = index.0,
        "receiving database snapshot"
    );
    let (inflight, started) =
        (snapshots.receive_inflight.with_label_values(&[&from]), Instant::now());
    inflight.inc();
    let saved = save(shared, request, snapshot, first).await;
    inflight.dec();
    let bytes = saved.map_err(|error| {
        tracing::warn!(
            "remote-snapshot-sender-id" = from,
            "incoming-snapshot-index" = index.0,
            error,
            "failed to save incoming database snapshot"
        );
        snapshots.receive_failures.with_label_values(&[&from]).inc();
        PeerRefusal::Saving(error)
    })?;
    tracing::info!(
        "remote-snapshot-sender-id" = from,
        "incoming-snapshot-index" = index.0,
        "incoming-snapshot-size-bytes" = bytes,
        "successfully saved database snapshot"
    );
    shared.counters.metrics.raft.peers.received_bytes.with_label_values(&[&from]).inc_by(bytes);
    shared.receive(message).map_err(PeerRefusal::ProcessingSnapshot)?;
    snapshots.receive_success.with_label_values(&[&from]).inc();
    let times = snapshots.receive_seconds.with_label_values(&[&from]);
    times.observe(started.elapsed().as_secs_f64());
    Ok(())
}

/// The message, and the first bytes of the file.
async fn read_head(
    shared: &Shared,
    request: &mut PlainRequest,
) -> Result<(Message, Bytes), PeerRefusal> {
    let mut decoder = SnapshotHeadDecoder::new(shared.message_bytes_max());
    let bad = |error: &dyn std::fmt::Display| PeerRefusal::Decoding(error.to_string());
    loop {
        let chunk = request.chunk().await.map_err(|error| bad(&error))?;
        let chunk = chunk.ok_or_else(|| bad(&"unexpected EOF"))?;
        match decoder.push(&chunk).map_err(|error| bad(&error))? {
            None => {}
            Some((Received::Message(message), first)) => return Ok((*message, first)),
            Some((Received::Refused(error), _)) => return Err(bad(&error)),
            Some((Received::LinkHeartbeat, _)) => return Err(PeerRefusal::WrongType),
        }
    }
}

/// Parts of a file on their way to the thread that writes it.
enum Part {
    Bytes(Bytes),
    /// The file is complete. Without this part, it is removed.
    End,
}

/// Writes the rest of the body. Returns the size of the file.
async fn save(
    shared: &Shared,
    request: &mut PlainRequest,
    snapshot: &RaftSnapshot,
    first: Bytes,
) -> Result<u64, String> {
    let (to, parts) = mpsc::channel(SNAPSHOT_CHUNKS);
    let options = &shared.options;
    let (disk, dir) = (Arc::clone(&options.disk), options.snap_dir.clone());
    let snapshot = snapshot.clone();
    let (bytes_max, metrics) = (options.database_bytes_max, Arc::clone(&options.metrics));
    let writing = tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        let written = write_file(&*disk, &dir, &snapshot, (parts, bytes_max), &metrics);
        metrics.disk.log.snap_db_save.observe(started.elapsed().as_secs_f64());
        written
    });
    let mut next = Some(first);
    let mut broken = None;
    while let Some(bytes) = next {
        // An error means that the writer has failed. Its result has the reason.
        if to.send(Part::Bytes(bytes)).await.is_err() {
            break;
        }
        next = match request.chunk().await {
            Ok(Some(bytes)) => Some(bytes),
            Ok(None) => {
                drop(to.send(Part::End).await);
                None
            }
            Err(error) => {
                broken = Some(error.to_string());
                None
            }
        };
    }
    drop(to);
    let written = writing.await.map_err(|error| error.to_string())?;
    match broken {
        Some(error) => Err(error),
        None => written.map_err(|error| error.to_string()),
    }
}

fn write_file(
    disk: &dyn Vfs,
    dir: &Path,
    snapshot: &RaftSnapshot,
    (mut parts, bytes_max): (mpsc::Receiver<Part>, u64),
    metrics: &Metrics,
) -> io::Result<u64> {
    let index = snapshot.id.index;
    let temporary = dir.join(format!("{TEMPORARY}{:016x}", index.0));
    let mut write = || {
        let file = disk.open(&temporary, Mode::Create)?;
        file.set_len(0)?;
        let mut len = 0;
        loop {
            match parts.blocking_recv() {
                Some(Part::Bytes(bytes)) => {
                    if len + bytes.len() as u64 > bytes_max {
                        let what = format!("the database is larger than {bytes_max} bytes");
                        return Err(io::Error::other(what));
                    }
                    file.write_at(&bytes, len)?;
                    len += bytes.len() as u64;
                }
                Some(Part::End) => break,
                None => return Err(io::Error::other("unexpected EOF")),
            }
        }
        if len < 2 * BLOCK || len % BLOCK != 0 {
            return Err(io::Error::other(format!("{len} bytes are no database")));
        }
        let sync_started = Instant::now();
        file.sync_data()?;
        metrics.disk.log.snap_db_fsync.observe(sync_started.elapsed().as_secs_f64());
        received::check(disk, &temporary, snapshot).map_err(io::Error::other)?;
        let name = dir.join(format!("{:016x}.snap.db", index.0));
        // If the file exists already, it is complete.
        if disk.exists(&name)? {
            disk.remove_file(&temporary)?;
        } else {
            disk.rename(&temporary, &name)?;
        }
        disk.sync_dir(dir)?;
        Ok(len)
    };
    let written = write();
    if written.is_err() && disk.exists(&temporary).unwrap_or(false) {
        disk.remove_file(&temporary)?;
    }
    written
}

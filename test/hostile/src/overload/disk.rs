//! A disk that other processes keep busy: threads that write and sync on the server's file system.

use anyhow::{Result, anyhow};
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

const WRITERS: usize = 4;
/// How many bytes each of them writes before it syncs, and the size at which it truncates its file.
const CHUNK: usize = 2 << 20;
const FILE_MAX: usize = 32 << 20;
/// How many bytes the server's log writes for a small put.
const SMALL: usize = 4 << 10;

/// Keeps the disk below `dir` busy.
pub(super) fn keep_busy(dir: &Path, stop: &AtomicBool, begun: Sender<()>) -> Result<String> {
    let alone = sync_time(dir)?;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(|| write(dir, stop))).collect();
        let busy = sync_time(dir)?;
        drop(begun);
        let mut bytes = 0;
        for writer in writers {
            bytes += writer.join().map_err(|_| anyhow!("a writer panicked"))??;
        }
        Ok(format!("{} MiB written; a sync takes {busy:.1?} instead of {alone:.1?}", bytes >> 20))
    })
}

fn write(dir: &Path, stop: &AtomicBool) -> Result<usize> {
    let mut file = tempfile::tempfile_in(dir)?;
    let (chunk, mut bytes) = (vec![7; CHUNK], 0);
    while !stop.load(Ordering::Relaxed) {
        file.write_all(&chunk)?;
        file.sync_data()?;
        bytes += CHUNK;
        if bytes % FILE_MAX == 0 {
            file.rewind()?;
        }
    }
    Ok(bytes)
}

/// The median time of a small write with its sync.
fn sync_time(dir: &Path) -> Result<Duration> {
    let mut file: File = tempfile::tempfile_in(dir)?;
    let mut times = Vec::new();
    for _ in 0..21 {
        let begun = Instant::now();
        file.write_all(&[7; SMALL])?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

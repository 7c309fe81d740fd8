//! Times commits on a large database file. It has many free pages, but only in holes that are too
//! short for the long runs of pages, so relocation finds nothing to move.
//!
//! Fills the file with values of 20 and of 10 pages in turn, deletes the short ones, and then
//! makes small commits. Pages of zeros are not written, so the file is sparse.

#![expect(clippy::print_stdout, reason = "a program that reports")]
#![expect(clippy::unwrap_used, reason = "a measurement fails by panicking")]

use bolt::{Db, Options, PageCache};
use bytes::Bytes;
use clap::Parser;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vfs::{File, LockKind, Mode, RealDisk, Vfs};

/// Commits that are timed, at most.
const COMMITS: usize = 500;
/// How long to commit, at most.
const TIME_MAX: Duration = Duration::from_secs(60);
const PAGE: usize = 4096;
static ZEROS: [u8; PAGE] = [0; PAGE];

/// A file that skips writes of zero pages where nothing was written before.
#[derive(Debug)]
struct SparseFile {
    file: Arc<dyn File>,
    written: Mutex<BTreeSet<u64>>,
}

impl File for SparseFile {
    fn path(&self) -> PathBuf {
        self.file.path()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.file.try_read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut written = self.written.lock().unwrap();
        for (page, at) in buf.chunks(PAGE).zip((offset..).step_by(PAGE)) {
            if page != &ZEROS[..page.len()] || written.contains(&at) {
                self.file.write_at(page, at)?;
                written.insert(at);
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn try_lock(&self, kind: LockKind) -> io::Result<bool> {
        self.file.try_lock(kind)
    }

    fn unlock(&self, kind: LockKind) -> io::Result<()> {
        self.file.unlock(kind)
    }
}

/// The real disk with [`SparseFile`]s.
#[derive(Debug)]
struct SparseDisk;

impl Vfs for SparseDisk {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let file = RealDisk.open(path, mode)?;
        Ok(Arc::new(SparseFile { file, written: Mutex::default() }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        RealDisk.exists(path)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
}

fn key(number: u64) -> Bytes {
    Bytes::from(number.to_be_bytes().to_vec())
}

/// Fills the file with values of 20 and of 10 pages.
fn fill(db: &mut Db, bytes: u64) -> u64 {
    let values = [20, 10].map(|pages| Bytes::from(vec![0; pages * PAGE - 100]));
    let mut tx = db.begin();
    tx.create_bucket(b"key").unwrap();
    tx.create_bucket(b"meta").unwrap();
    tx.commit().unwrap();
    let mut number = 0;
    while db.view().size() < bytes {
        let mut tx = db.begin();
        let ops = (number..number + 1000)
            .map(|number| (key(number), Some(values[usize::from(number % 2 == 1)].clone())));
        tx.apply(b"key", ops).unwrap();
        tx.commit().unwrap();
        number += 1000;
    }
    number
}

fn small_commit(db: &mut Db, number: u64) -> Duration {
    let mut tx = db.begin();
    tx.put(b"meta", Bytes::from("index"), key(number)).unwrap();
    let start = Instant::now();
    tx.commit().unwrap();
    start.elapsed()
}

/// Times small commits on a large, fragmented database file.
#[derive(Debug, Parser)]
struct Args {
    /// The directory of the file, which is removed at the end.
    #[arg(long)]
    dir: PathBuf,
    /// The length of the file in GiB.
    #[arg(long, default_value_t = 2)]
    gib: u64,
}

fn main() {
    let Args { dir, gib } = Args::parse();
    let path = dir.join("relocation.db");
    let cache = Arc::new(PageCache::new(16 << 20));
    let options = Options { new_page_size: PAGE, cache, read_only: false };
    let mut db = Db::open(&SparseDisk, &path, options).unwrap();
    let values = fill(&mut db, gib << 30);
    let mut tx = db.begin();
    tx.apply(b"key", (0..values / 2).map(|number| (key(2 * number + 1), None))).unwrap();
    let start = Instant::now();
    tx.commit().unwrap();
    println!("{gib} GiB, {values} values; the commit that deletes: {:?}", start.elapsed());
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < COMMITS && start.elapsed() < TIME_MAX {
        times.push(small_commit(&mut db, times.len() as u64));
    }
    times.sort_unstable();
    let total: Duration = times.iter().sum();
    println!(
        "{} small commits: mean {:?}, median {:?}, slowest {:?}; {} MiB of {} in use",
        times.len(),
        total / u32::try_from(times.len()).unwrap(),
        times[times.len() / 2],
        times[times.len() - 1],
        db.view().size_in_use() >> 20,
        db.view().size() >> 20,
    );
    RealDisk.remove_file(&path).unwrap();
}

//! A flood of requests while the disk of one thread hangs: memory stays within its limits, requests
//! wait, and once the disk works again all of them are answered.

use crate::member;
use proto::etcdserverpb::{InternalRaftRequest, PutRequest};
use server::{Connections, EncodedRequest, Error, Running, TakeOver, Worker};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use vfs::{File, LockKind, Mode, SimDisk, Vfs};

/// Requests of one flood: far more than may be in progress.
const REQUESTS: usize = 20_000;
/// The maximum number of requests in progress, `DOOR_UNITS` of the server.
const UNDER_WAY_MAX: usize = 4_096;
const VALUE_LEN: usize = 1_024;
/// The maximum bytes of an entry besides its value.
const ENTRY_LEN: usize = 256;
/// How long a test waits before it fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// A disk on which syncs of files whose path contains `word` wait while the gate is shut.
#[derive(Debug, Clone)]
struct GatedDisk {
    disk: SimDisk,
    word: &'static str,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let shut = self.shut.lock().unwrap();
        drop(self.opened.wait_while(shut, |shut| *shut).unwrap());
    }
}

impl Vfs for GatedDisk {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, mode)?;
        if !path.to_string_lossy().contains(self.word) {
            return Ok(file);
        }
        Ok(Arc::new(GatedFile { file, gate: Arc::clone(&self.gate) }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
}

#[derive(Debug)]
struct GatedFile {
    file: Arc<dyn File>,
    gate: Arc<Gate>,
}

impl File for GatedFile {
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
        self.file.write_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }

    fn try_lock(&self, kind: LockKind) -> io::Result<bool> {
        self.file.try_lock(kind)
    }

    fn unlock(&self, kind: LockKind) -> io::Result<()> {
        self.file.unlock(kind)
    }
}

type Answered = Result<(), Error>;

/// Workers that put a requested number of keys at once, and report each answer.
struct Flood {
    floods: Mutex<Option<tokio::sync::mpsc::UnboundedReceiver<usize>>>,
    answers: Mutex<Sender<Answered>>,
}

impl Connections for Flood {
    fn open(&self, worker: Worker) -> TakeOver {
        let mut floods = self.floods.lock().unwrap().take().unwrap();
        let answers = self.answers.lock().unwrap().clone();
        tokio::task::spawn_local(async move {
            while let Some(count) = floods.recv().await {
                for _ in 0..count {
                    let (worker, answers) = (worker.clone(), answers.clone());
                    tokio::task::spawn_local(async move {
                        answers
                            .send(
                                worker
                                    .propose(auth::Caller::default(), EncodedRequest::new(&put()))
                                    .await
                                    .map(drop),
                            )
                            .unwrap();
                    });
                }
            }
        });
        Box::new(|_| panic!("there are no connections"))
    }
}

fn put() -> InternalRaftRequest {
    let put =
        PutRequest { key: "k".into(), value: vec![7; VALUE_LEN].into(), ..Default::default() };
    InternalRaftRequest { put: Some(put), ..InternalRaftRequest::default() }
}

struct Member {
    running: Running,
    gate: Arc<Gate>,
    floods: tokio::sync::mpsc::UnboundedSender<usize>,
    answers: Receiver<Answered>,
}

impl Member {
    /// A member with one worker that leads, on a disk whose files with `word` can be held.
    fn start(word: &'static str, request_time_max: Duration) -> Member {
        let gate = Arc::new(Gate::default());
        let disk = GatedDisk { disk: SimDisk::new(1), word, gate: Arc::clone(&gate) };
        let vfs: Arc<dyn Vfs> = Arc::new(disk);
        let (floods, to_worker) = tokio::sync::mpsc::unbounded_channel();
        let (to, answers) = channel();
        let flood = Flood { floods: Mutex::new(Some(to_worker)), answers: Mutex::new(to) };
        let running = member::start(vfs, 1, request_time_max, Arc::new(flood));
        let member = Member { running, gate, floods, answers };
        member.put_until_it_succeeds();
        member
    }

    fn put_until_it_succeeds(&self) {
        let begun = Instant::now();
        loop {
            self.floods.send(1).unwrap();
            if self.answers.recv_timeout(PATIENCE).unwrap().is_ok() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "no put succeeds");
        }
    }

    /// Asserts the limits of requests in progress and of log entries in memory. In memory may be
    /// the window of applied entries, and the entries of this flood that are not applied.
    fn check_limits(&self) {
        let handle = self.running.handle();
        let (waiting, log) = (handle.waiting(), handle.log_bytes());
        assert!(waiting <= UNDER_WAY_MAX, "{waiting} requests are under way");
        let under_way = UNDER_WAY_MAX * (VALUE_LEN + ENTRY_LEN);
        let log_max = raft::LOG_WINDOW_BYTES_MAX + under_way;
        assert!(log <= log_max, "{log} bytes of the log are in memory");
    }

    fn stop(self) {
        self.running.handle().stop();
        assert_eq!(self.running.wait(), Ok(()));
    }
}

/// The thread of the file hangs under a flood until the limit of requests is in progress, and then
/// continues.
fn a_flood_waits_for(word: &'static str) {
    let member = Member::start(word, PATIENCE);
    member.gate.set(true);
    member.floods.send(REQUESTS).unwrap();
    let begun = Instant::now();
    let mut answered = 0;
    while member.running.handle().waiting() < UNDER_WAY_MAX {
        member.check_limits();
        answered += member.answers.try_iter().map(Result::unwrap).count();
        assert!(begun.elapsed() < PATIENCE, "the flood does not come");
        std::thread::yield_now();
    }
    member.check_limits();
    member.gate.set(false);
    for _ in answered..REQUESTS {
        member.check_limits();
        assert_eq!(member.answers.recv_timeout(PATIENCE).unwrap(), Ok(()));
    }
    assert_eq!(member.running.handle().waiting(), 0);
    member.stop();
}

#[test]
fn while_the_log_hangs_requests_wait_and_are_all_answered_later() {
    a_flood_waits_for("/wal/");
}

#[test]
fn while_the_database_hangs_requests_wait_and_are_all_answered_later() {
    a_flood_waits_for("/snap/db");
}

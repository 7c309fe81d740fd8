//! The life of a member's threads: what ends one ends all, by name.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use executor::BootOptions;
use server::metrics::Metrics;
use server::{Connections, Kept, Options, Pace, Running, TakeOver, Worker};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use vfs::{Fault, Injection, Operation, SimDisk, Vfs};

/// Workers that panic at their first connection.
struct Panicking;

impl Connections for Panicking {
    fn open(&self, _: Worker) -> TakeOver {
        Box::new(|_, _| panic!("this worker cannot take connections"))
    }
}

fn start(disk: &SimDisk) -> Running {
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    let booted = server::boot(&vfs, &BootOptions::simulated(1)).unwrap();
    let options = Options {
        workers: 2,
        pace: Pace {
            tick: Duration::from_millis(1),
            slice_interval: Duration::from_millis(1),
            auto_compaction: executor::AutoCompaction::Off,
            slow_apply: Duration::from_secs(1),
            batch_interval: Duration::from_millis(1),
            batch_limit: 10,
        },
        kept: Kept { catch_up_entries: 100, snapshots_max: 1, segments_max: 1 },
        limits: server::Limits {
            request_bytes_max: 1 << 20,
            request_time_max: Duration::from_secs(5),
            progress_interval: Duration::from_secs(600),
            watchers: server::WatcherLimits { stream: 100, connection: 100, total: 100 },
            quota: state::quota::Quota::from_flag(0),
        },
        unix_ms: 1,
        metrics: Arc::new(Metrics::new(false)),
    };
    server::start(vfs, booted, options, Arc::new(Panicking)).unwrap()
}

#[test]
fn a_worker_that_panics_ends_the_member_by_name() {
    let running = start(&SimDisk::new(1));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    running.handle().accept(connection, Box::new(()));
    let why = running.wait().unwrap_err();
    assert!(why.starts_with("worker-"), "{why}");
}

#[test]
fn a_disk_that_fails_ends_the_member_by_the_name_of_the_thread() {
    let disk = SimDisk::new(1);
    let running = start(&disk);
    disk.inject(Injection::first(Operation::Sync, Fault::Io));
    let why = running.wait().unwrap_err();
    assert!(why.starts_with("log: ") || why.starts_with("backend: "), "{why}");
    assert!(why.contains("cannot be written"), "{why}");
}

#[test]
fn a_member_that_is_told_to_stop_ends_without_a_fault() {
    let running = start(&SimDisk::new(1));
    running.handle().stop();
    assert_eq!(running.wait(), Ok(()));
}

//! The life of a member's threads: when one ends, all end, and the error names it.

use crate::member;
use server::{Connections, Running, TakeOver, Worker};
use std::sync::Arc;
use std::time::Duration;
use vfs::{Fault, Injection, Operation, SimDisk, Vfs};

/// Workers that panic at their first connection.
struct Panicking;

impl Connections for Panicking {
    fn open(&self, _: Worker) -> TakeOver {
        Box::new(|_| panic!("this worker cannot take connections"))
    }
}

fn start(disk: &SimDisk) -> Running {
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    member::start(vfs, 2, Duration::from_secs(5), Arc::new(Panicking))
}

#[test]
fn a_worker_that_panics_ends_the_member_by_name() {
    let running = start(&SimDisk::new(1));
    running.handle().accept(Box::new(()));
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

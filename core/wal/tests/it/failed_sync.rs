//! Each sync of a workload fails once. The member stops and starts again on the same page cache,
//! in which the lost batch is still readable, and goes on; later the machine loses power. All that
//! was synced, or returned by the start, is still there.

use crate::model::{DIR, LogContent, Model, SEGMENT, metadata, open};
use crate::support::rounds;
use proto::EntryId;
use random::Random;
use std::path::Path;
use std::sync::Arc;
use vfs::{Fault, Injection, Operation, SimDisk};
use wal::{Error, Recovered, Wal};

/// Operations before the workload ends without a failure.
const OPERATIONS: u64 = 40;
/// Operations after the restart.
const OPERATIONS_AFTER: u64 = 6;
const IMAGES: u64 = 3;

/// Creates the log if there is none, then opens it, as a start of a member does.
fn start(disk: &SimDisk) -> Result<(Wal, EntryId, Recovered), Error> {
    let dir = Path::new(DIR);
    // The caller of the log makes the names of the directories durable.
    vfs::create_dir_durable(disk, dir.parent().unwrap()).map_err(|_| Error::Poisoned)?;
    for above in dir.ancestors().skip(1) {
        vfs::Vfs::sync_dir(disk, above).map_err(|_| Error::Poisoned)?;
    }
    if !wal::exists(disk, dir)? {
        let disk = Arc::new(disk.clone());
        Wal::create_with_segments(disk, dir, &metadata(), SEGMENT)?.close()?;
    }
    open(disk)
}

/// Runs the workload until an operation fails; false if none does.
fn fails(disk: &SimDisk, model: &mut Model, rng: &mut Random) -> bool {
    let Ok((mut wal, _, _)) = start(disk) else { return true };
    for _ in 0..OPERATIONS {
        let step = model.next_step(rng);
        model.begin(&step);
        if model.carry_out(&mut wal, &step).is_err() {
            assert!(wal.is_poisoned());
            return true;
        }
        model.end();
    }
    false
}

/// Power fails while the log is opened and at each point of the operations that follow.
fn restart_and_lose_power(
    disk: &SimDisk,
    model: &mut Model,
    rng: &mut Random,
    context: &str,
) -> u64 {
    let mut images = 0;
    let mut check = |disk: &SimDisk, model: &Model, context: &str| {
        for recorded in disk.take_recorded() {
            for seed in 0..IMAGES {
                let (point, call) = (recorded.point, recorded.operation);
                let context = format!("{context}, point {point} ({call:?}), image {seed}");
                let image = recorded.disk.crash_image(seed);
                if wal::exists(&image, Path::new(DIR)).unwrap() {
                    model.check(&image, &context);
                } else {
                    assert_eq!(model.durable, LogContent::default(), "{context}");
                }
                images += 1;
            }
        }
    };
    disk.record_every(1);
    let (mut wal, snapshot, recovered) = start(disk).unwrap();
    check(disk, model, &format!("{context}, opening"));
    let found = model.find(snapshot, &recovered, context);
    model.restart(found);
    for operation in 0..OPERATIONS_AFTER {
        let step = model.next_step(rng);
        model.begin(&step);
        model.carry_out(&mut wal, &step).unwrap();
        check(disk, model, &format!("{context}, operation {operation} after the restart"));
        model.end();
    }
    images
}

fn each_failing(operation: Operation) -> (u64, u64) {
    let (mut failures, mut images) = (0, 0);
    for seed in 0..2 * rounds() {
        for skip in 0.. {
            let disk = SimDisk::new(seed << 32 | skip);
            disk.inject(Injection { skip, ..Injection::first(operation, Fault::Io) });
            let (mut model, mut rng) = (Model::default(), Random::new(seed));
            if !fails(&disk, &mut model, &mut rng) {
                break;
            }
            failures += 1;
            let twice = skip % 2 == 1;
            if twice {
                disk.inject(Injection::first(Operation::Sync, Fault::Io));
                assert!(start(&disk).is_err(), "a start syncs the log that it reads");
            }
            let context = format!("seed {seed}, {operation:?} {skip} failed, twice: {twice}");
            images += restart_and_lose_power(&disk, &mut model, &mut rng, &context);
        }
    }
    (failures, images)
}

#[test]
fn a_batch_read_after_a_failed_sync_survives_power_loss() {
    let (failures, images) = each_failing(Operation::Sync);
    println!("{failures} failed syncs, {images} images");
    assert!(failures > 60);
}

#[test]
fn a_log_read_after_a_failed_directory_sync_survives_power_loss() {
    let (failures, images) = each_failing(Operation::SyncDir);
    println!("{failures} failed directory syncs, {images} images");
    assert!(failures > 10);
}

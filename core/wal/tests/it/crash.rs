//! Crashes at every write, sync, truncation, rename and directory sync of a workload. Each image
//! opens, has everything that was synced, and has only a beginning of the unfinished batch.

use crate::model::{DIR, LogContent, Model, SEGMENT, entries, metadata, open};
use crate::support::rounds;
use proto::Term;
use random::Random;
use std::path::Path;
use std::sync::Arc;
use vfs::SimDisk;
use wal::Wal;

const OPERATIONS: u64 = 120;
const IMAGES: u64 = 4;

fn run(seed: u64) -> (u64, u64) {
    let mut rng = Random::new(seed);
    let disk = SimDisk::new(seed);
    disk.record_every(1);
    let created =
        Wal::create_with_segments(Arc::new(disk.clone()), Path::new(DIR), &metadata(), SEGMENT);
    let mut wal = created.unwrap();
    let (mut points, mut tries) = (0, 0);
    for recorded in disk.take_recorded() {
        points += 1;
        for image_seed in 0..IMAGES {
            let image = recorded.disk.crash_image(image_seed);
            if wal::exists(&image, Path::new(DIR)).unwrap() {
                let (_, _, found) = open(&image).unwrap();
                assert_eq!((found.entries.len(), found.torn), (0, None));
            } else {
                Wal::create(Arc::new(image), Path::new(DIR), &metadata()).unwrap();
            }
            tries += 1;
        }
    }
    let mut model = Model::default();
    for operation in 0..OPERATIONS {
        let step = model.next_step(&mut rng);
        model.begin(&step);
        model.carry_out(&mut wal, &step).unwrap();
        for recorded in disk.take_recorded() {
            points += 1;
            for image_seed in 0..IMAGES {
                let context = format!(
                    "seed {seed} operation {operation} point {} ({:?}) image {image_seed}",
                    recorded.point, recorded.operation
                );
                let image = recorded.disk.crash_image(image_seed);
                let before_opening = image.fork();
                let (_, log) = model.check(&image, &context);
                tries += 1;
                if image_seed == 0 {
                    crash_while_opening(&before_opening, &model, &context);
                    check_goes_on(&image, &log, &context);
                    // The process is killed and started again; later the machine loses power.
                    let killed = recorded.disk.fork();
                    let (_, log) = model.check(&killed, &context);
                    check_goes_on(&killed, &log, &context);
                }
            }
        }
        model.end();
    }
    (points, tries)
}

/// A second start finds what the first one found, and what it then writes is durable.
fn check_goes_on(disk: &SimDisk, log: &LogContent, context: &str) {
    let (mut wal, snapshot, found) = open(disk).unwrap();
    assert!(log.is(snapshot, &found), "{context}: the second start found something else");
    assert_eq!(found.torn, None, "{context}");
    let mut log = log.clone();
    log.state.term = log.state.term.max(Term(1));
    let more = entries(&mut Random::new(1), log.last().index.0 + 1, log.state.term);
    wal.append(&more, log.state).unwrap();
    wal.sync().unwrap();
    more.iter().for_each(|entry| log.append(entry));
    for image_seed in 0..2 {
        let (_, snapshot, found) = open(&disk.crash_image(image_seed)).unwrap();
        assert!(log.is(snapshot, &found), "{context}: entries written after a start are lost");
    }
}

fn crash_while_opening(disk: &SimDisk, model: &Model, context: &str) {
    disk.record_every(1);
    open(disk).unwrap();
    for recorded in disk.take_recorded() {
        for image_seed in 0..2 {
            let context = format!("{context}, opening, point {}", recorded.point);
            model.check(&recorded.disk.crash_image(image_seed), &context);
        }
    }
}

#[test]
fn after_a_crash_everything_synced_is_there_and_at_most_a_prefix_of_the_rest() {
    let (mut points, mut tries) = (0, 0);
    for seed in 0..2 * rounds() {
        let (more_points, more_tries) = run(seed);
        points += more_points;
        tries += more_tries;
    }
    println!("{tries} images of {points} points");
    assert!(points > 400);
}

//! A short form of the program `crash`: one member, a workload, and crash images at some points of
//! its disk.

use sim::crash::try_all;
use sim::faults::try_faults;
use sim::plan::Plan;
use sim::restarts::try_restarts;

fn plan(seed: u64) -> Plan {
    let (kept, lies) = (0, false);
    Plan { seed, operations: 400, every: 11, images: 4, point: None, threads: 2, kept, lies }
}

#[test]
fn no_crash_loses_what_was_acknowledged_or_leaves_half_of_anything() {
    for seed in 1..=3 {
        let report = try_all(plan(seed)).unwrap();
        assert!(report.missing().is_empty(), "seed {seed}: no {:?}", report.missing());
        assert!(report.images > 200 && report.with_more > 20, "{report:?}");
        assert!(report.readers > 20 && report.readers_across_commits > 10, "{report:?}");
        assert!(report.tally.count("truncate", "database") > 0, "{report:?}");
    }
}

/// A start once did not sync the parents of the directories that it created.
#[test]
fn a_first_start_leaves_a_directory_that_stays() {
    let report = try_all(Plan { operations: 20, every: 1, images: 8, ..plan(1) }).unwrap();
    assert_eq!(report.tally.all, report.tally.tried);
    assert!(report.tally.count("make", "directory") > 2);
}

#[test]
fn databases_are_kept_as_the_crash_and_as_the_next_start_left_them() {
    let report = try_all(Plan { kept: 8, ..plan(1) }).unwrap();
    let names: Vec<&str> = report.databases.iter().map(|kept| &*kept.name).collect();
    let ends_with = |end: &str| names.iter().filter(|name| name.ends_with(end)).count();
    assert!(ends_with("-crashed.db") >= 4 && ends_with("-started.db") >= 8, "{names:?}");
    let magic = [0xed, 0xda, 0x0c, 0xed];
    assert!(report.databases.iter().all(|kept| kept.bytes[16..20] == magic), "{names:?}");
    assert!(try_all(plan(1)).unwrap().databases.is_empty());
}

#[test]
fn a_disk_that_fails_stops_the_member_and_loses_nothing() {
    let faults = try_faults(plan(1), 60).unwrap();
    // A member continues only if the call was optional: a spare segment, the removal of old files.
    assert_eq!(faults.stopped + faults.went_on, 60);
    assert!(faults.stopped > 40, "{faults:?}");
    assert!(faults.refused * 4 < faults.starts, "{faults:?}");
}

#[test]
fn a_restart_after_a_failed_sync_trusts_nothing_that_the_page_cache_shows() {
    let restarts = try_restarts(Plan { images: 8, ..plan(1) }, 40).unwrap();
    assert_eq!(restarts.images, 40 * 8);
    assert!(restarts.restarted > 30, "{restarts:?}");
}

#[test]
fn a_log_that_answers_before_it_syncs_is_found_out() {
    let failure = try_all(Plan { lies: true, ..plan(1) }).unwrap_err();
    let is_of_the_log = |what: &&str| failure.contains(what);
    assert!(["the log ends at", "is damaged at byte"].iter().any(is_of_the_log), "{failure}");
}

//! Tests of the whole simulated disk; `file.rs` tests files.

use super::*;
use std::collections::BTreeSet;

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn put(disk: &SimDisk, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.open(path(name), Mode::Create).unwrap();
    file.write_at(bytes, 0).unwrap();
    file
}

fn content(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    let file = disk.open(path(name), Mode::Read).ok()?;
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

#[test]
fn the_disk_behaves_like_a_file_system() {
    let disk = SimDisk::new(1);
    assert!(disk.open(path("/a/f"), Mode::Create).is_err(), "no directory");
    disk.create_dir_all(path("/a/b")).unwrap();
    disk.create_dir_all(path("/a/b")).unwrap();
    assert!(disk.open(path("/a/b"), Mode::Read).is_err(), "a directory");
    let file = put(&disk, "/a/b/f", b"hello");
    assert!(disk.open(path("/a/b/f"), Mode::CreateNew).is_err());
    assert!(disk.open(path("/a/b/g"), Mode::Write).is_err());
    let reader = disk.open(path("a/./b/f"), Mode::Read).unwrap();
    assert_eq!(reader.write_at(b"x", 0).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    file.allocate(100).unwrap();
    file.allocate(50).unwrap();
    assert_eq!(reader.len().unwrap(), 100);
    file.set_len(3).unwrap();
    file.set_len(6).unwrap();
    assert_eq!(content(&disk, "/a/b/f").unwrap(), b"hel\0\0\0");
    put(&disk, "/a/b/g", b"g");
    disk.rename(path("/a/b/g"), path("/a/b/f")).unwrap();
    assert_eq!(disk.list(path("/a/b")).unwrap(), ["f"]);
    assert_eq!(content(&disk, "/a/b/f").unwrap(), b"g");
    assert_eq!(reader.len().unwrap(), 6, "an open file outlives its name");
    disk.sync_dir(path("/a/b")).unwrap();
    assert_eq!(reader.len().unwrap(), 6);
    disk.rename(path("/a/b"), path("/a/c")).unwrap();
    assert!(disk.exists(path("/a/c/f")).unwrap());
    assert!(!disk.exists(path("/a/b/f")).unwrap());
    disk.remove_file(path("/a/c/f")).unwrap();
    put(&disk, "/a/c/h", b"h");
    disk.remove_dir_all(path("/a")).unwrap();
    assert!(disk.list(path("/")).unwrap().is_empty());
    assert!(disk.open(path("/../x"), Mode::Create).is_err());
    assert!(file.write_at(b"x", u64::MAX - 3).is_err());
}

#[test]
fn a_lock_is_released_with_its_handle_and_not_copied_to_an_image() {
    let disk = SimDisk::new(1);
    let one = put(&disk, "/f", b"");
    let two = disk.open(path("/f"), Mode::Write).unwrap();
    for kind in [LockKind::Flock, LockKind::OpenFileDescription] {
        assert!(one.try_lock(kind).unwrap());
        assert!(one.try_lock(kind).unwrap());
        assert!(!two.try_lock(kind).unwrap());
    }
    disk.settle();
    let after = disk.crash_image(1).open(path("/f"), Mode::Write).unwrap();
    assert!(after.try_lock(LockKind::Flock).unwrap());
    one.unlock(LockKind::Flock).unwrap();
    assert!(two.try_lock(LockKind::Flock).unwrap());
    drop(one);
    assert!(two.try_lock(LockKind::OpenFileDescription).unwrap());
}

#[test]
fn unsynced_names_survive_independently() {
    let disk = SimDisk::new(1);
    disk.create_dir_all(path("/d")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    put(&disk, "/d/old", b"o").sync_data().unwrap();
    put(&disk, "/d/from", b"f").sync_data().unwrap();
    disk.sync_dir(path("/d")).unwrap();
    put(&disk, "/d/new", b"n").sync_data().unwrap();
    disk.remove_file(path("/d/old")).unwrap();
    disk.rename(path("/d/from"), path("/d/to")).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..300 {
        let image = disk.crash_image(seed);
        let names = image.list(path("/d")).unwrap();
        let has = |name: &str| names.iter().any(|other| other == name);
        assert!(has("from") != has("to"), "a rename is whole");
        seen.insert((has("old"), has("new"), has("to")));
    }
    assert_eq!(seen.len(), 8);
    disk.sync_dir(path("/d")).unwrap();
    for seed in 0..50 {
        assert_eq!(disk.crash_image(seed).list(path("/d")).unwrap(), ["new", "to"]);
    }
}

#[test]
fn a_synced_file_without_a_synced_name_may_be_lost() {
    let disk = SimDisk::new(1);
    put(&disk, "/f", b"data").sync_data().unwrap();
    let found: BTreeSet<_> = (0..50).map(|seed| content(&disk.crash_image(seed), "/f")).collect();
    assert_eq!(found, BTreeSet::from([None, Some(b"data".to_vec())]));
}

#[test]
fn a_rename_between_directories_is_durable_once_either_is_synced() {
    let disk = SimDisk::new(1);
    disk.create_dir_all(path("/a")).unwrap();
    disk.create_dir_all(path("/b")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    put(&disk, "/a/x", b"1").sync_data().unwrap();
    disk.rename(path("/a/x"), path("/b/y")).unwrap();
    disk.sync_dir(path("/b")).unwrap();
    for seed in 0..50 {
        let image = disk.crash_image(seed);
        assert!(image.list(path("/a")).unwrap().is_empty());
        assert_eq!(content(&image, "/b/y").unwrap(), b"1");
    }
}

#[test]
fn a_file_renamed_twice_has_one_name() {
    let disk = SimDisk::new(1);
    put(&disk, "/a", b"1").sync_data().unwrap();
    disk.sync_dir(path("/")).unwrap();
    disk.rename(path("/a"), path("/b")).unwrap();
    disk.rename(path("/b"), path("/c")).unwrap();
    let found: BTreeSet<_> =
        (0..100).map(|seed| disk.crash_image(seed).list(path("/")).unwrap().join(" ")).collect();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn the_same_seed_gives_the_same_image() {
    let run = || {
        let disk = SimDisk::new(3);
        for round in 0..20_u8 {
            let file = put(&disk, &format!("/f{}", round % 3), &[round; 3000]);
            file.write_at(&[round; 700], u64::from(round) * 100).unwrap();
            if round % 4 == 0 {
                file.sync_data().unwrap();
            }
        }
        disk
    };
    let (one, two) = (run(), run());
    let mut kinds = BTreeSet::new();
    for seed in 0..40 {
        let image = one.crash_image(seed);
        let all = |disk: &SimDisk| -> Vec<_> {
            (0..3).map(|file| content(disk, &format!("/f{file}"))).collect()
        };
        assert_eq!(all(&image), all(&two.crash_image(seed)));
        assert_eq!(all(&image.crash_image(seed + 1)), all(&image), "an image is durable");
        kinds.insert(all(&image));
    }
    assert!(kinds.len() > 20, "seeds differ: {}", kinds.len());
}

#[test]
fn every_change_is_a_point_and_can_be_recorded() {
    let disk = SimDisk::new(1);
    disk.record_every(1);
    disk.create_dir_all(path("/d")).unwrap();
    disk.set_tag(7);
    let file = put(&disk, "/d/f", b"1");
    file.allocate(10).unwrap();
    file.sync_data().unwrap();
    file.set_len(5).unwrap();
    disk.sync_dir(path("/d")).unwrap();
    disk.rename(path("/d/f"), path("/d/g")).unwrap();
    disk.remove_file(path("/d/g")).unwrap();
    assert_eq!(disk.points(), 9);
    let recorded = disk.take_recorded();
    let kinds: Vec<_> = recorded.iter().map(|at| (at.point, at.operation, at.tag)).collect();
    assert_eq!(
        kinds,
        [
            (1, Operation::CreateDir, 0),
            (2, Operation::Create, 7),
            (3, Operation::Write, 7),
            (4, Operation::Allocate, 7),
            (5, Operation::Sync, 7),
            (6, Operation::SetLen, 7),
            (7, Operation::SyncDir, 7),
            (8, Operation::Rename, 7),
            (9, Operation::Remove, 7),
        ]
    );
    assert_eq!(content(&recorded[4].disk, "/d/f").unwrap(), b"1\0\0\0\0\0\0\0\0\0");
    let lost = |at: &Recorded| {
        (0..50).any(|seed| !at.disk.crash_image(seed).exists(path("/d/f")).unwrap())
    };
    assert!(lost(&recorded[6]), "a directory sync under way promises nothing");
}

#[test]
fn after_a_stop_every_call_fails_and_the_call_under_way_is_not_durable() {
    let disk = SimDisk::new(1);
    let file = put(&disk, "/f", b"old");
    disk.settle();
    disk.stop_at(disk.points() + 2);
    file.write_at(b"new", 0).unwrap();
    assert!(file.sync_data().is_err());
    assert!(file.read_at(&mut [0], 0).is_err());
    assert!(file.len().is_err());
    assert!(disk.list(path("/")).is_err());
    assert!(disk.exists(path("/f")).is_err());
    assert!(disk.open(path("/f"), Mode::Read).is_err());
    assert!(disk.open(path("/g"), Mode::Create).is_err());
    let found: BTreeSet<_> =
        (0..50).map(|seed| content(&disk.crash_image(seed), "/f").unwrap()).collect();
    assert_eq!(found, BTreeSet::from([b"new".to_vec(), b"old".to_vec()]));
}

#[test]
fn faults_hit_the_calls_they_are_armed_for() {
    let disk = SimDisk::new(1);
    let file = put(&disk, "/f", &[1; 1000]);
    disk.settle();
    disk.inject(Injection { skip: 1, ..Injection::first(Operation::Write, Fault::NoSpace) });
    file.write_at(&[2; 1000], 0).unwrap();
    let full = file.write_at(&[3; 1000], 0).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(content(&disk, "/f").unwrap()[499..501], [3, 2]);
    disk.inject(Injection {
        path: "/g".into(),
        lasting: true,
        ..Injection::first(Operation::Create, Fault::Io)
    });
    assert!(disk.open(path("/g"), Mode::Create).is_err());
    assert!(disk.open(path("/g"), Mode::Create).is_err());
    assert!(disk.open(path("/h"), Mode::Create).is_ok());
    disk.inject(Injection::first(Operation::Read, Fault::BitFlip));
    let mut bytes = [0; 1000];
    file.read_at(&mut bytes, 0).unwrap();
    let good = content(&disk, "/f").unwrap();
    let wrong: u32 = bytes.iter().zip(&good).map(|(a, b)| (a ^ b).count_ones()).sum();
    assert_eq!(wrong, 1);
    disk.set_cached_reads_miss_every(2);
    assert!(file.try_read_at(&mut bytes, 0).unwrap().is_some());
    assert!(file.try_read_at(&mut bytes, 0).unwrap().is_none());
}

#[test]
fn a_restart_after_a_failed_sync_reads_the_lost_writes_and_a_power_loss_takes_them() {
    let mut lost = 0;
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let file = put(&disk, "/f", &[1; 4096]);
        file.sync_data().unwrap();
        disk.settle();
        disk.inject(Injection::first(Operation::Sync, Fault::Io));
        file.write_at(&[2; 4096], 0).unwrap();
        assert!(file.sync_data().is_err());
        drop(file);
        for (restarted, disk) in [disk.fork(), disk.clone()].into_iter().enumerate() {
            assert_eq!(content(&disk, "/f").unwrap(), [2; 4096], "the page cache has them");
            let file = disk.open(path("/f"), Mode::Write).unwrap();
            file.sync_data().unwrap();
            let found = content(&disk.fork().crash_image(seed), "/f").unwrap();
            lost += usize::from(found != [2; 4096]);
            file.write_at(&[2; 4096], 0).unwrap();
            file.sync_data().unwrap();
            let found = content(&disk.crash_image(seed), "/f").unwrap();
            assert_eq!(found, [2; 4096], "restart {restarted}: written again, they are durable");
        }
    }
    assert!(lost > 70, "a successful sync after a failed one does not write what was lost: {lost}");
}

#[test]
fn tampering_is_durable_and_stays_inside_the_file() {
    let disk = SimDisk::new(1);
    put(&disk, "/f", &[0; 10]);
    disk.settle();
    disk.flip_bit(path("/f"), 3, 1).unwrap();
    disk.tamper(path("/f"), 8, &[9, 9]).unwrap();
    disk.cut(path("/f"), 9).unwrap();
    assert!(disk.tamper(path("/f"), 8, &[9, 9]).is_err());
    for seed in 0..10 {
        let bytes = content(&disk.crash_image(seed), "/f").unwrap();
        assert_eq!(bytes, [0, 0, 0, 2, 0, 0, 0, 0, 9]);
    }
}

#[test]
fn removed_files_free_their_nodes() {
    let disk = SimDisk::new(1);
    for _ in 0..100 {
        put(&disk, "/f", &[1; 100]);
        disk.remove_file(path("/f")).unwrap();
        disk.sync_dir(path("/")).unwrap();
    }
    assert_eq!(disk.lock().node_count(), 1, "the root");
}

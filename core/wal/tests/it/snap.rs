//! The `.snap` files.

use crate::support::{content, go_logs};
use bytes::Bytes;
use proto::{ConfState, EntryId, Index, NodeId, Term};
use std::path::Path;
use vfs::{Fault, Injection, Mode, Operation, SimDisk, Vfs as _};
use wal::snap::{SnapFile, decode, encode, file_name, load, load_newest_valid, purge, save};
use wal::{Error, SnapshotRecord};

const DIR: &str = "/snap";

fn disk() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk.settle();
    disk
}

fn snap(term: u64, index: u64) -> SnapFile {
    let voters = vec![NodeId(0xff8e_73a2_7a53_7f60)];
    SnapFile {
        id: EntryId { term: Term(term), index: Index(index) },
        conf_state: ConfState { voters, ..ConfState::default() },
        data: Bytes::from(vec![b'x'; 3_000]),
    }
}

fn record(snap: &SnapFile) -> SnapshotRecord {
    SnapshotRecord { id: snap.id, conf_state: Some(snap.conf_state.clone()) }
}

#[test]
fn files_of_every_etcd_version_are_read_and_written_byte_for_byte() {
    let Some(logs) = go_logs() else { return };
    let (mut read, mut alike) = (0, 0);
    for log in logs {
        for name in log.disk.list(Path::new(DIR)).unwrap() {
            if !name.ends_with(".snap") {
                continue;
            }
            let bytes = content(&log.disk, &Path::new(DIR).join(&name), u64::MAX);
            let snap = decode(bytes.clone().into()).unwrap();
            assert_eq!(file_name(snap.id), name);
            assert!(!snap.conf_state.voters.is_empty());
            assert!(snap.data.starts_with(b"{\"Root\""));
            assert_eq!(decode(encode(&snap).into()).unwrap(), snap);
            read += 1;
            alike += u32::from(encode(&snap) == bytes);
        }
    }
    println!("{read} files, {alike} of them the same byte for byte");
    assert!(read > 30 && alike == read);
}

#[test]
fn the_newest_snapshot_with_a_record_in_the_log_is_loaded() {
    let disk = disk();
    for snap in [snap(1, 100), snap(2, 50), snap(2, 200)] {
        save(&disk, Path::new(DIR), &snap).unwrap();
    }
    let known = [record(&snap(1, 100)), record(&snap(2, 50))];
    let loaded = load_newest_valid(&disk, Path::new(DIR), &known).unwrap();
    assert_eq!((loaded.snap, loaded.broken.len()), (Some(snap(2, 50)), 0));
    assert_eq!(load(&disk, Path::new(DIR), snap(2, 200).id).unwrap(), snap(2, 200));
    assert_eq!(purge(&disk, Path::new(DIR), 2).len(), 1);
    assert!(matches!(load(&disk, Path::new(DIR), snap(1, 100).id), Err(Error::Io { .. })));
}

#[test]
fn a_damaged_file_is_renamed_and_the_previous_one_is_loaded() {
    let whole = encode(&snap(2, 200));
    let mut harmless = 0;
    for offset in 0..whole.len() as u64 {
        let disk = disk();
        save(&disk, Path::new(DIR), &snap(1, 100)).unwrap();
        save(&disk, Path::new(DIR), &snap(2, 200)).unwrap();
        let path = Path::new(DIR).join(file_name(snap(2, 200).id));
        let bit = u32::try_from(offset % 8).unwrap();
        disk.flip_bit(&path, offset, bit).unwrap();
        let known = [record(&snap(1, 100)), record(&snap(2, 200))];
        let loaded = load_newest_valid(&disk, Path::new(DIR), &known).unwrap();
        if loaded.snap == Some(snap(2, 200)) {
            harmless += 1;
            continue;
        }
        assert!(loaded.snap == Some(snap(1, 100)), "bit {bit} of {offset}");
        assert_eq!(loaded.broken[0].file, path);
        assert!(disk.exists(Path::new(&format!("{}.broken", path.display()))).unwrap());
    }
    assert!(harmless < 2, "unused bits of the crc field");
    for len in 0..whole.len() {
        assert!(decode(Bytes::copy_from_slice(&whole[..len])).is_err());
    }
}

#[test]
fn a_crash_leaves_a_complete_file_or_none() {
    let disk = disk();
    disk.record_every(1);
    save(&disk, Path::new(DIR), &snap(1, 100)).unwrap();
    for seed in 0..8 {
        let after = disk.crash_image(seed);
        assert_eq!(load(&after, Path::new(DIR), snap(1, 100).id).unwrap(), snap(1, 100));
    }
    for recorded in disk.take_recorded() {
        for seed in 0..16 {
            let image = recorded.disk.crash_image(seed);
            let loaded = load_newest_valid(&image, Path::new(DIR), &[record(&snap(1, 100))]);
            assert!(loaded.unwrap().broken.is_empty());
            wal::snap::remove_leftovers(&image, Path::new(DIR));
            save(&image, Path::new(DIR), &snap(1, 100)).unwrap();
            assert_eq!(image.list(Path::new(DIR)).unwrap(), [file_name(snap(1, 100).id)]);
        }
    }
}

#[test]
fn a_failing_disk_leaves_no_file() {
    for operation in [Operation::Write, Operation::Sync, Operation::Rename] {
        let disk = disk();
        disk.inject(Injection::first(operation, Fault::NoSpace));
        assert!(matches!(save(&disk, Path::new(DIR), &snap(1, 1)), Err(Error::Io { .. })));
        let names = disk.list(Path::new(DIR)).unwrap();
        assert!(names.iter().all(|name| name.starts_with("tmp")), "{names:?}");
    }
}

#[test]
fn databases_of_older_snapshots_are_released() {
    let disk = disk();
    for name in ["0000000000000005.snap.db", "0000000000000009.snap.db", "db", "tmp1", "db.tmp.3"] {
        disk.open(&Path::new(DIR).join(name), Mode::Create).unwrap();
    }
    wal::snap::release_databases(&disk, Path::new(DIR), Index(9));
    wal::snap::remove_leftovers(&disk, Path::new(DIR));
    assert_eq!(disk.list(Path::new(DIR)).unwrap(), ["0000000000000009.snap.db", "db"]);
}

//! Shared by the tests: logs of Go's etcd, loaded onto simulated disks.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use vfs::{Mode, RealDisk, SimDisk, Vfs as _};

/// The `wal` and `snap` directories of one member of Go's etcd, on a simulated disk at `/wal` and
/// `/snap`.
pub(crate) struct GoLog {
    pub(crate) name: String,
    pub(crate) disk: SimDisk,
}

/// All logs of go-data, which tests must not change. Prints a message and returns `None` if there is
/// no test data.
pub(crate) fn go_logs() -> Option<&'static [GoLog]> {
    static LOGS: OnceLock<Vec<GoLog>> = OnceLock::new();
    let Some(data) = std::env::var_os("RETCD_TESTDATA") else {
        println!("skipped: RETCD_TESTDATA is not set, so there are no logs of Go's etcd");
        return None;
    };
    let load = || {
        let dir = Path::new(&data).join("go-data");
        let names = RealDisk.list(&dir).expect("go-data is there");
        let archives = names.iter().filter(|name| name.ends_with(".tar.gz"));
        archives.flat_map(|archive| unpack(&dir.join(archive))).collect()
    };
    let logs: &[GoLog] = LOGS.get_or_init(load);
    assert!(logs.len() > 30, "all of go-data is there");
    Some(logs)
}

fn unpack(archive: &Path) -> Vec<GoLog> {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new("tar")
        .args(["--sparse", "-xzf"])
        .arg(archive)
        .arg("-C")
        .arg(dir.path())
        .status()
        .unwrap();
    assert!(status.success());
    let mut members = Vec::new();
    find_members(dir.path(), &mut members);
    assert!(!members.is_empty(), "{archive:?} holds no member");
    members
        .into_iter()
        .map(|member| {
            let disk = SimDisk::new(0);
            for part in ["wal", "snap"] {
                let target = Path::new("/").join(part);
                disk.create_dir_all(&target).unwrap();
                for name in RealDisk.list(&member.join(part)).unwrap() {
                    if name == "db" {
                        continue;
                    }
                    let (from, to) = (member.join(part).join(&name), target.join(&name));
                    vfs::copy_file(&RealDisk, &from, &disk, &to).unwrap();
                }
            }
            shorten(&disk);
            disk.settle();
            let inside = member.strip_prefix(dir.path()).unwrap().display().to_string();
            let archive = archive.file_name().unwrap().to_string_lossy().into_owned();
            GoLog { name: format!("{archive}: {inside}"), disk }
        })
        .collect()
}

fn find_members(dir: &Path, found: &mut Vec<PathBuf>) {
    if dir.join("wal").is_dir() && dir.join("snap").is_dir() {
        found.push(dir.to_path_buf());
        return;
    }
    for name in RealDisk.list(dir).unwrap() {
        if dir.join(&name).is_dir() {
            find_members(&dir.join(name), found);
        }
    }
}

/// Removes most of the zeros at the end of the last segment, so that thousands of runs are fast.
pub(crate) fn shorten(disk: &SimDisk) {
    let dir = Path::new("/wal");
    let records = wal::dump(disk, dir).unwrap();
    let last = records.last().unwrap();
    let file = disk.open(&last.file, Mode::Read).unwrap();
    let end = (last.offset + last.len + 8192).div_ceil(4096) * 4096;
    if file.len().unwrap() > end {
        disk.cut(&last.file, end).unwrap();
    }
}

/// The first bytes of a file, at most `len`.
pub(crate) fn content(disk: &SimDisk, path: &Path, len: u64) -> Vec<u8> {
    let file = disk.open(path, Mode::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(len.min(file.len().unwrap())).unwrap()];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// The factor for the number of random runs; `RETCD_LONG` increases it.
pub(crate) fn rounds() -> u64 {
    if std::env::var_os("RETCD_LONG").is_some() { 16 } else { 1 }
}

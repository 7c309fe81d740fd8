//! Starts on whole directories of Go's etcd and of ours: intact, with one damaged record of the
//! log, and with a torn last batch. (The tests of `wal` cover the log alone.)
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a test says what it skipped")]

use auth::{Caller, Denied, KeyRange};
use bytes::Bytes;
use executor::{BootError, BootOptions};
use proto::Index;
use serde_json::Value;
use sim::driver::Driver;
use sim::seed::Seed;
use sim::workload::Workload;
use state::{LeaseQuery, Reply};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use vfs::{Mode, RealDisk, SimDisk, Vfs as _};
use wal::{DumpedRecord, RecordKind};

const VERSIONS: [&str; 6] = ["3.4.23", "3.4.45", "3.5.1", "3.5.30", "3.6.14", "3.7.1"];
const WAL: &str = "/data/default.etcd/member/wal";
const SNAP: &str = "/data/default.etcd/member/snap";

/// A directory on a simulated disk, at `/data/default.etcd`, durable.
struct Directory {
    name: String,
    disk: SimDisk,
    options: BootOptions,
    /// The server's answers before it stopped, one file each.
    expected: Vec<(String, Value)>,
}

impl Directory {
    fn answer(&self, name: &str) -> &Value {
        self.expected.iter().find(|(file, _)| file == name).map_or(&Value::Null, |(_, json)| json)
    }

    fn boot(&self, disk: &SimDisk) -> Result<Driver, BootError> {
        Driver::boot(disk, &self.options, 1)
    }
}

/// The directory of the tests' data. `None`, with a message, if there is none.
fn testdata() -> Option<PathBuf> {
    let data = std::env::var_os("RETCD_TESTDATA").map(|data| Path::new(&data).join("go-data"));
    if data.is_none() {
        println!("skipped: RETCD_TESTDATA is not set, so there are no directories of Go's etcd");
    }
    data
}

/// The directories of single members. They must not be changed.
fn directories() -> Option<&'static [Directory]> {
    static DIRECTORIES: OnceLock<Vec<Directory>> = OnceLock::new();
    let data = testdata()?;
    let load = || {
        let scenarios = ["plain-TERM", "plain-KILL", "nospace"];
        let names = VERSIONS.iter().flat_map(|v| scenarios.map(|s| format!("{v}-{s}")));
        let others = ["3.4.23-v2", "3.4.45-v2", "3.5.1-v2", "3.5.30-v2", "upgraded-3.4-to-3.7"];
        names.chain(others.map(str::to_owned)).map(|name| unpack(&data, &name)).collect()
    };
    Some(DIRECTORIES.get_or_init(load))
}

fn unpack(data: &Path, name: &str) -> Directory {
    let dir = tempfile::tempdir().unwrap();
    let archive = data.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--sparse", "-xzf"]).arg(&archive).arg("-C").arg(dir.path());
    assert!(tar.status().unwrap().success(), "{}", archive.display());
    let disk = SimDisk::new(0);
    disk.create_dir_all(Path::new("/data")).unwrap();
    let target = Path::new("/data/default.etcd");
    vfs::copy_tree(&RealDisk, &dir.path().join("data"), &disk, target).unwrap();
    shorten(&disk);
    disk.settle();
    let answers = dir.path().join("expected");
    let read = |file: String| {
        let text = std::fs::read_to_string(answers.join(&file)).unwrap();
        (file, serde_json::from_str(&text).unwrap())
    };
    let files = RealDisk.list(&answers).unwrap_or_default();
    let expected = files.into_iter().filter(|file| file.ends_with(".json")).map(read).collect();
    let mut options = BootOptions::simulated(1);
    options.log_sizes.segment_bytes = wal::SEGMENT_BYTES;
    options.settings.snapshot_count = 10_000;
    Directory { name: name.to_owned(), disk, options, expected }
}

/// Cuts most of the zeros off the last segment, so that many tries stay fast.
fn shorten(disk: &SimDisk) {
    let records = wal::dump(disk, Path::new(WAL)).unwrap();
    let last = records.last().unwrap();
    let end = (last.offset + last.len + 8192).div_ceil(4096) * 4096;
    if disk.open(&last.file, Mode::Read).unwrap().len().unwrap() > end {
        disk.cut(&last.file, end).unwrap();
    }
}

/// A directory of ours: segments, snapshots, compactions, and a last batch that is synced and not
/// yet in the database.
fn ours() -> Directory {
    let (disk, options, mut seed) = (SimDisk::new(7), BootOptions::simulated(7), Seed::new(7));
    let mut workload = Workload::new(7);
    let mut driver = Driver::boot(&disk, &options, 1).unwrap();
    while driver.last_index() < Index(450) || driver.in_file() >= driver.published().applied.index {
        if seed.one_in(3) {
            driver.submit(workload.next(driver.published().view.revision()));
        }
        if !driver.step(&mut seed).unwrap() {
            driver.tick().unwrap();
        }
    }
    drop(driver);
    disk.settle();
    Directory { name: "ours".into(), disk, options, expected: Vec::new() }
}

fn settled(mut driver: Driver) -> Driver {
    for _ in 0..2 {
        driver.tick().unwrap();
        driver.settle().unwrap();
    }
    assert!(driver.is_ready());
    driver
}

/// Revision and HashKV.
fn content(driver: &Driver) -> (i64, u32) {
    let view = &driver.published().view;
    (view.revision(), view.hash_kv(0).unwrap().run().unwrap().hash)
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

#[test]
fn a_go_etcds_directory_boots_as_it_was_left() {
    let Some(directories) = directories() else { return };
    for directory in directories {
        let mut driver = settled(directory.boot(&directory.disk.fork()).unwrap());
        let hash = &directory.answer("hashkv.json")[0]["HashKV"];
        let revision = number(&hash["header"]["revision"]);
        let wanted = (revision, u32::try_from(hash["hash"].as_u64().unwrap()).unwrap());
        assert_eq!(content(&driver), wanted, "{}", directory.name);
        driver.file().check().unwrap();
        let status = &directory.answer("status.json")[0]["Status"];
        assert_eq!(Some(driver.id().0), status["leader"].as_u64(), "{}", directory.name);
        let leases = directory.answer("leases.json")["leases"].as_array().map_or(0, Vec::len);
        let Some(Reply::Leases(found)) = driver.ask(LeaseQuery::List).unwrap() else { panic!() };
        assert_eq!(found.len(), leases, "{}", directory.name);
        let nospace = proto::etcdserverpb::AlarmType::Nospace;
        let has_alarm = directory.answer("alarms.json")["alarms"].is_array();
        assert_eq!(driver.published().alarms.is_on(nospace), has_alarm, "{}", directory.name);
    }
}

#[test]
fn a_directory_with_authentication_boots_guarded() {
    let Some(data) = testdata() else { return };
    for version in VERSIONS {
        let directory = unpack(&data, &format!("{version}-auth"));
        let driver = settled(directory.boot(&directory.disk).unwrap());
        let hash = &directory.answer("hashkv.json")[0]["HashKV"];
        let wanted = (number(&hash["header"]["revision"]), hash["hash"].as_u64().unwrap());
        let (revision, hash) = content(&driver);
        assert_eq!((revision, u64::from(hash)), wanted, "{version}");
        let auth = &driver.published().auth;
        assert!(auth.is_enabled(), "{version}");
        for name in directory.answer("users.json")["users"].as_array().unwrap() {
            assert!(auth.user(name.as_str().unwrap()).is_some(), "{version}: {name}");
        }
        let all = || KeyRange::Span { from: Bytes::from_static(&[0]), end: None };
        let read = |user: &str, auth_revision| {
            let caller = Caller { user: user.to_owned(), auth_revision };
            auth.permit(&caller, all()).map(drop)
        };
        let now = auth.revision();
        assert_eq!(read("", 0), Err(Denied::UserEmpty), "{version}");
        assert_eq!(read("root", now - 1), Err(Denied::OldRevision), "{version}");
        assert_eq!(read("root", now), Ok(()), "{version}");
        assert_eq!(read("u1", now), Err(Denied::PermissionDenied), "{version}");
    }
}

/// The number of records before those that a crash may have torn: the entries at the end with the
/// state records around them.
fn surely_synced(records: &[DumpedRecord]) -> usize {
    let mut rest = records;
    for kind in [RecordKind::State, RecordKind::Entry, RecordKind::State] {
        while let Some((last, before)) = rest.split_last()
            && last.kind == kind
        {
            rest = before;
        }
    }
    rest.len()
}

/// The first record of the segment in which reading begins.
fn first_read(disk: &SimDisk, records: &[DumpedRecord]) -> usize {
    let known = wal::valid_snapshots(disk, Path::new(WAL)).unwrap();
    let loaded = wal::snap::load_newest_valid(disk, Path::new(SNAP), &known).unwrap();
    let snapshot = loaded.snap.map(|snap| snap.id).unwrap_or_default();
    let files = disk.list(Path::new(WAL)).unwrap();
    let index_of = |name: &str| u64::from_str_radix(&name[17..33], 16).unwrap();
    let mut segments = files.iter().filter(|name| name.ends_with(".wal"));
    let first = segments.rfind(|name| index_of(name) <= snapshot.index.0).unwrap();
    records.iter().position(|record| record.file.ends_with(first)).unwrap()
}

/// All files of the log and the snapshots.
fn files(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let names = |dir: &'static str| disk.list(Path::new(dir)).unwrap().into_iter();
    let wal = names(WAL).map(|name| Path::new(WAL).join(name));
    let snap = names(SNAP).filter(|name| name != "db").map(|name| Path::new(SNAP).join(name));
    wal.chain(snap)
        .map(|path| {
            let file = disk.open(&path, Mode::Read).unwrap();
            let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
            file.read_at(&mut bytes, 0).unwrap();
            (path, bytes)
        })
        .collect()
}

/// Starts on a damaged directory. Returns true if the start reports where the damage is and changes
/// no file, and false if it succeeds because the damage is not in the part that is read.
fn reports(
    directory: &Directory,
    disk: &SimDisk,
    record: &DumpedRecord,
    whole: (i64, u32),
) -> bool {
    let before = files(disk);
    let context = format!("{}: {} of {}", directory.name, record.offset, record.file.display());
    match directory.boot(disk) {
        Err(BootError::Log(wal::Error::Corrupt { file, offset, .. })) => {
            // The very first CRC record cannot be checked, so the record after it looks damaged.
            let first = record.kind == RecordKind::Crc && offset == record.len;
            assert_eq!(file, record.file, "{context}");
            assert!(first || offset == record.offset, "{context}: {offset}");
            assert!(files(disk) == before, "{context}: something was overwritten");
            true
        }
        Err(other) => panic!("{context}: {other}"),
        Ok(driver) => {
            assert_eq!(content(&settled(driver)), whole, "{context}: was not noticed");
            false
        }
    }
}

/// Damages one record at a time. Returns the number of tries, and how many of them were harmless.
fn damage_is_reported(directory: &Directory, stride: usize) -> (u64, u64) {
    let (mut tries, mut harmless) = (0, 0);
    let whole = content(&settled(directory.boot(&directory.disk.fork()).unwrap()));
    let records = wal::dump(&directory.disk, Path::new(WAL)).unwrap();
    let range = first_read(&directory.disk, &records)..surely_synced(&records);
    for record in records[range].iter().step_by(stride) {
        let zeroed = directory.disk.fork();
        let zeros = vec![0; usize::try_from(record.len).unwrap()];
        zeroed.tamper(&record.file, record.offset, &zeros).unwrap();
        assert!(reports(directory, &zeroed, record, whole), "{} zeroed", directory.name);
        let flipped = directory.disk.fork();
        // Spares the padding at the end of the record.
        let byte = (tries * 7) % (record.len - 7);
        flipped.flip_bit(&record.file, record.offset + byte, 3).unwrap();
        harmless += u64::from(!reports(directory, &flipped, record, whole));
        tries += 2;
    }
    (tries, harmless)
}

fn stride() -> usize {
    if std::env::var_os("RETCD_LONG").is_some() { 1 } else { 15 }
}

#[test]
fn a_start_reports_one_damaged_record_and_overwrites_nothing() {
    let (mut tries, mut harmless) = damage_is_reported(&ours(), stride().min(3));
    for directory in directories().unwrap_or_default() {
        let (more_tries, more_harmless) = damage_is_reported(directory, stride());
        tries += more_tries;
        harmless += more_harmless;
    }
    println!("{tries} damaged directories; in {harmless} nothing that is read was changed");
    assert!(tries > 50 && harmless * 20 < tries);
}

/// The records of the last synced batch.
fn last_batch(records: &[DumpedRecord]) -> &[DumpedRecord] {
    let mut from = records.len();
    while records[from - 1].kind == RecordKind::State {
        from -= 1;
    }
    // Entries without a state record between them may have been synced separately.
    if records[from - 1].kind == RecordKind::Entry {
        from -= 1;
    }
    &records[from.min(records.len() - 1)..]
}

/// Tears the last batch in every way, or in many ways. Returns how many of them booted.
fn torn_boots(directory: &Directory) -> u64 {
    let whole = settled(directory.boot(&directory.disk.fork()).unwrap());
    let (wanted, _) = content(&whole);
    let records = wal::dump(&directory.disk, Path::new(WAL)).unwrap();
    let torn = last_batch(&records);
    let (file, from) = (&torn[0].file, torn[0].offset);
    let to = torn.last().map(|last| last.offset + last.len).unwrap();
    let sectors: Vec<u64> = (from / 512..to.div_ceil(512)).collect();
    let mut booted = 0;
    for pattern in 0..1_u64 << sectors.len().min(6) {
        let disk = directory.disk.fork();
        for (bit, sector) in sectors.iter().enumerate() {
            if pattern >> (bit % 6) & 1 == 0 {
                let (start, end) = ((sector * 512).max(from), ((sector + 1) * 512).min(to));
                let zeros = vec![0; usize::try_from(end - start).unwrap()];
                disk.tamper(file, start, &zeros).unwrap();
            }
        }
        match directory.boot(&disk) {
            Ok(driver) => {
                let (revision, _) = content(&settled(driver));
                assert!(revision <= wanted && revision + 8 > wanted, "{}", directory.name);
                booted += 1;
            }
            // Entries that the database has applied were synced, so a missing one is lost, not
            // torn.
            Err(BootError::Log(wal::Error::Corrupt { file: at, .. })) if at == *file => {
                assert!(whole_is_in_file(directory), "{}", directory.name);
            }
            Err(other) => panic!("{}: {other}", directory.name),
        }
    }
    booted
}

/// Whether the database has applied all entries of the log.
fn whole_is_in_file(directory: &Directory) -> bool {
    let disk = directory.disk.fork();
    let booted = directory.boot(&disk).unwrap();
    booted.in_file() == booted.last_index()
}

#[test]
fn a_torn_last_batch_boots_unless_the_database_has_applied_it() {
    assert!(torn_boots(&ours()) > 1);
    let mut booted = 0;
    for directory in directories().unwrap_or_default() {
        booted += torn_boots(directory);
    }
    println!("{booted} torn directories of Go's etcds booted");
}

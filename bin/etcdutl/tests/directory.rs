//! etcdutl on data directories: it changes only the requested things, and nothing in a directory
//! that is in use or too new.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use bolt::{Db, Options, PageCache};
use bytes::Bytes;
use prost::Message as _;
use proto::etcdserverpb::{DowngradeVersionTestRequest, InternalRaftRequest};
use proto::mvccpb::KeyValue;
use proto::{Entry, EntryKind, HardState, Index, NodeId, Revision, Term};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::SystemTime;
use tempfile::TempDir;
use vfs::RealDisk;
use wal::snap::SnapFile;
use wal::{Metadata, OpenAt, SnapshotRecord, Wal};

/// A data directory whose last entry has term 1.
struct Directory {
    dir: TempDir,
}

impl Directory {
    /// A directory with the versions that etcd 3.5.30 stored for `put a b`, `put a c`, `put b x`,
    /// `del a`, and with this storage version.
    fn new(storage_version: Option<&str>) -> Directory {
        let directory = Directory { dir: TempDir::new().unwrap() };
        std::fs::create_dir_all(directory.db_path().parent().unwrap()).unwrap();
        let mut db = directory.open();
        let mut tx = db.begin();
        for bucket in [&b"key"[..], b"members", b"meta"] {
            tx.create_bucket(bucket).unwrap();
        }
        for (revision, kv) in [
            (2, version(b"a", b"b", [2, 2, 1])),
            (3, version(b"a", b"c", [2, 3, 2])),
            (4, version(b"b", b"x", [4, 4, 1])),
        ] {
            let key = Revision { main: revision, sub: 0 }.to_bytes();
            put(&mut tx, b"key", &key, &kv.encode_to_vec());
        }
        let tombstone = KeyValue { key: b"a"[..].into(), ..KeyValue::default() };
        let key = Revision { main: 5, sub: 0 }.to_tombstone_bytes();
        put(&mut tx, b"key", &key, &tombstone.encode_to_vec());
        put(&mut tx, b"meta", b"consistent_index", &1_u64.to_be_bytes());
        put(&mut tx, b"meta", b"term", &1_u64.to_be_bytes());
        if let Some(version) = storage_version {
            put(&mut tx, b"meta", b"storageVersion", version.as_bytes());
        }
        tx.commit().unwrap();
        directory
    }

    /// The same with a log of one entry.
    fn with_log(storage_version: Option<&str>, request: &InternalRaftRequest) -> Directory {
        let directory = Directory::new(storage_version);
        let dir = directory.path().join("member/wal");
        let metadata = Metadata { node: NodeId(1), cluster: 1 };
        let mut log = Wal::create(Arc::new(RealDisk), &dir, &metadata).unwrap();
        let data = request.encode_to_vec().into();
        let entry = Entry { term: Term(1), index: Index(1), kind: EntryKind::Normal, data };
        let state = HardState { term: Term(1), vote: NodeId(1), commit: Index(1) };
        log.append(&[entry], state).unwrap();
        log.sync().unwrap();
        log.close().unwrap();
        directory
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn db_path(&self) -> PathBuf {
        self.path().join("member/snap/db")
    }

    fn open(&self) -> Db {
        let cache = Arc::new(PageCache::new(1 << 20));
        let options = Options { new_page_size: 4096, cache, read_only: false };
        Db::open(&RealDisk, &self.db_path(), options).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.db_path()).unwrap()
    }

    fn storage_version(&self) -> Option<Bytes> {
        self.open().view().get(b"meta", b"storageVersion").unwrap()
    }

    /// The names beside the database.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.db_path().parent().unwrap()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Runs a command with `--data-dir`. Returns its exit code and its standard error.
    fn run(&self, words: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_etcdutl"))
            .args(words)
            .arg("--timeout=100ms")
            .arg("--data-dir")
            .arg(self.path())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// When the database was last written to.
    fn written(&self) -> SystemTime {
        std::fs::metadata(self.db_path()).unwrap().modified().unwrap()
    }

    /// Runs a command that must fail with this message and write nothing.
    fn refuses(&self, words: &[&str], why: &str) {
        let before = (self.bytes(), self.written());
        let (code, errors) = self.run(words);
        assert_eq!(code, Some(1), "{words:?}: {errors}");
        assert!(errors.contains(why), "{words:?}: {errors}");
        assert!((self.bytes(), self.written()) == before, "{words:?} wrote to the database");
        assert_eq!(self.names(), ["db"], "{words:?}");
    }

    fn done(&self, words: &[&str]) -> String {
        let (code, errors) = self.run(words);
        assert_eq!(code, Some(0), "{words:?}: {errors}");
        errors
    }
}

fn version(key: &[u8], value: &[u8], [create, modification, version]: [i64; 3]) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(key),
        create_revision: create,
        mod_revision: modification,
        version,
        value: Bytes::copy_from_slice(value),
        ..KeyValue::default()
    }
}

fn put(tx: &mut bolt::Tx<'_>, bucket: &[u8], key: &[u8], value: &[u8]) {
    tx.put(bucket, Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)).unwrap();
}

fn hashkv(directory: &Directory) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_etcdutl"))
        .arg("hashkv")
        .arg(directory.db_path())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_hash_is_that_of_etcd_3_5_30() {
    assert_eq!(hashkv(&Directory::new(None)), "2872259930, 5, -1\n");
}

#[test]
fn defragmentation_keeps_the_content_and_drops_unused_space() {
    let directory = Directory::new(Some("3.7.0"));
    let mut db = directory.open();
    for is_there in [true, false] {
        let mut tx = db.begin();
        tx.create_bucket(b"other").unwrap();
        for number in 0_u32..2000 {
            let key = number.to_be_bytes();
            if is_there {
                put(&mut tx, b"other", &key, &[7; 1000]);
            } else if number % 100 != 0 {
                tx.delete(b"other", &key).unwrap();
            }
        }
        tx.commit().unwrap();
    }
    drop(db);
    let before = directory.bytes().len();
    let content = |db: &Db| {
        let view = db.view();
        let mut pairs = Vec::new();
        for bucket in view.buckets() {
            let mut cursor = view.cursor(bucket, false);
            while let Some((key, value)) = cursor.next().unwrap() {
                pairs.push((bucket.clone(), key, value));
            }
        }
        pairs
    };
    let expected = content(&directory.open());
    let log = directory.done(&["defrag"]);
    assert!(log.contains("finished defragmenting directory"), "{log}");
    let db = directory.open();
    assert_eq!(content(&db), expected);
    db.check().unwrap();
    drop(db);
    assert!(directory.bytes().len() * 4 < before, "{} of {before}", directory.bytes().len());
    assert_eq!(directory.names(), ["db"]);
}

#[test]
fn a_directory_in_use_or_too_new_is_left_as_it_is() {
    let put = InternalRaftRequest { put: Some(Default::default()), ..Default::default() };
    let used = Directory::with_log(Some("3.7.0"), &put);
    let held = used.open();
    used.refuses(&["defrag"], "(timeout)");
    used.refuses(&["migrate", "--target-version=3.6"], "Error: timeout");
    drop(held);

    let newer = Directory::with_log(Some("3.8.0"), &put);
    newer.refuses(&["defrag"], "version \"3.8.0\" is not supported");
    let why = "cannot create migration plan: version \"3.8.0\" is not supported";
    newer.refuses(&["migrate", "--target-version=3.7"], why);

    let damaged = Directory::with_log(Some("new"), &put);
    damaged.refuses(&["defrag"], "the storage version of the database is damaged");
    damaged.refuses(&["migrate", "--target-version=3.7"], "is damaged");

    let empty = Directory { dir: TempDir::new().unwrap() };
    for words in [&["defrag"][..], &["migrate", "--target-version=3.6"]] {
        let (code, errors) = empty.run(words);
        assert_eq!(code, Some(1));
        assert!(errors.contains("member/snap/db: no such file or directory"), "{errors}");
        assert!(!std::fs::exists(empty.path()).unwrap());
    }

    let leftover = Directory::new(None);
    std::fs::write(leftover.db_path(), [1; 8192]).unwrap();
    leftover.refuses(&["defrag"], "Failed to defragment");
}

#[test]
fn a_directory_is_migrated_there_and_back() {
    let put = InternalRaftRequest { put: Some(Default::default()), ..Default::default() };
    let directory = Directory::with_log(None, &put);
    let log = directory.done(&["migrate", "--target-version=3.7"]);
    let steps = log.lines().map(|line| line.rsplit('\t').next().unwrap()).collect::<Vec<_>>();
    assert_eq!(
        steps,
        ["{\"new-storage-version\": \"3.6.0\"}", "{\"new-storage-version\": \"3.7.0\"}"]
    );
    assert_eq!(directory.storage_version(), Some("3.7.0".into()));
    let log = directory.done(&["migrate", "--target-version=3.7"]);
    assert!(log.contains("storage version up-to-date"), "{log}");
    directory.done(&["migrate", "--target-version=3.6"]);
    assert_eq!(directory.storage_version(), Some("3.6.0".into()));
    directory.done(&["migrate", "--target-version=3.5"]);
    assert_eq!(directory.storage_version(), None);
    assert_eq!(hashkv(&directory), "2872259930, 5, -1\n");
}

#[test]
fn what_the_older_etcd_cannot_read_is_forced_only() {
    let test = Some(DowngradeVersionTestRequest { ver: "3.7.0".to_string() });
    let request = InternalRaftRequest { downgrade_version_test: test, ..Default::default() };
    let directory = Directory::with_log(Some("3.7.0"), &request);
    directory.refuses(
        &["migrate", "--target-version=3.6"],
        "cannot downgrade storage, WAL contains newer entries, as the target version (3.6.0) is \
         lower than the version (3.7.0) detected from WAL logs",
    );
    directory.refuses(&["migrate", "--target-version=3.8"], "version \"3.8.0\" is not supported");
    let log = directory.done(&["migrate", "--target-version=3.6", "--force"]);
    assert!(log.contains("forcefully set storage version"), "{log}");
    assert_eq!(directory.storage_version(), Some("3.6.0".into()));

    let without_log = Directory::new(Some("3.6.0"));
    let why = "failed to open wal";
    without_log.refuses(&["migrate", "--target-version=3.5"], why);

    let oldest = Directory::new(None);
    let mut db = oldest.open();
    let mut tx = db.begin();
    tx.delete(b"meta", b"term").unwrap();
    tx.commit().unwrap();
    drop(db);
    oldest.refuses(&["migrate", "--target-version=3.6"], "Error: missing term information");
}

#[test]
fn snapshot_save_fails_and_names_etcdctl() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_etcdutl")).args(["snapshot", "save", "s.db"]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(128));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("use: `etcdctl snapshot save ...`"), "{errors}");
}

/// Opens a database to read it.
fn open(path: &Path) -> Db {
    let cache = Arc::new(PageCache::new(1 << 20));
    Db::open(&RealDisk, path, Options { new_page_size: 4096, cache, read_only: true }).unwrap()
}

#[test]
fn a_backup_has_the_keys_and_one_new_member() {
    let put = InternalRaftRequest { put: Some(Default::default()), ..Default::default() };
    let directory = Directory::with_log(Some("3.7.0"), &put);
    let mut db = directory.open();
    let mut tx = db.begin();
    for bucket in [&b"members"[..], b"cluster"] {
        tx.create_bucket(bucket).unwrap();
        self::put(&mut tx, bucket, b"old", b"{}");
    }
    tx.commit().unwrap();
    drop(db);
    let backup = directory.dir.path().join("backup");
    let flag = format!("--backup-dir={}", backup.display());
    directory.done(&["backup", &flag]);
    let copy = backup.join("member/snap/db");
    let view = open(&copy).view();
    let mut members = view.cursor(b"members", false);
    let (_, member) = members.next().unwrap().unwrap();
    let member = String::from_utf8(member.to_vec()).unwrap();
    assert!(member.contains("\"name\":\"etcdctl-v2-backup\""), "{member}");
    assert!(member.contains("[\"http://use-flag--force-new-cluster:2080\"]"), "{member}");
    assert!(members.next().unwrap().is_none() && !view.has_bucket(b"cluster"));
    let read = |dir: &Path| {
        wal::read(&RealDisk, &dir.join("member/wal"), &OpenAt::new(Default::default(), Index(0)))
    };
    assert_eq!(read(&backup).unwrap(), read(&directory.path()).unwrap());
    for key in [&b"consistent_index"[..], b"storageVersion"] {
        let old = directory.open().view().get(b"meta", key).unwrap();
        assert_eq!(view.get(b"meta", key).unwrap(), old);
    }
    drop(view);

    // A second backup would mix with the first one.
    let (code, errors) = directory.run(&["backup", &flag]);
    assert!(code == Some(1) && errors.contains("backup/member/snap/db exists"), "{errors}");
    let without = directory.dir.path().join("without");
    let flag = format!("--backup-dir={}", without.display());
    directory.done(&["backup", &flag, "--with-v3=false"]);
    let view = open(&without.join("member/snap/db")).view();
    assert!(!view.has_bucket(b"key"));
    assert_eq!(
        view.get(b"meta", b"consistent_index").unwrap().unwrap(),
        [0, 0, 0, 0, 0, 0, 0, 1][..]
    );
    assert_eq!(read(&without).unwrap().entries[0].data, put.encode_to_vec());
}

#[test]
fn data_of_the_v2_api_is_found_in_the_newest_snapshot() {
    let put = InternalRaftRequest { put: Some(Default::default()), ..Default::default() };
    let directory = Directory::with_log(None, &put);
    directory.done(&["check", "v2store"]);
    let node = |path: &str, children: &str| {
        format!(
            r#"{{"Path":"{path}","CreatedIndex":1,"ModifiedIndex":1,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{children}}}"#
        )
    };
    let save = |index: u64, keys: &str| {
        let root = node("/", &format!(r#"{{"1":{}}}"#, node("/1", keys)));
        let data = format!(r#"{{"Root":{root},"CurrentIndex":1,"CurrentVersion":2}}"#);
        let id = proto::EntryId { term: Term(1), index: Index(index) };
        let snap = SnapFile { id, conf_state: Default::default(), data: data.into() };
        let dir = directory.path().join("member/snap");
        wal::snap::save(&RealDisk, &dir, &snap).unwrap();
        let wal = directory.path().join("member/wal");
        let at = OpenAt::new(Default::default(), Index(0));
        let (mut log, _) = Wal::open(Arc::new(RealDisk), &wal, &at).unwrap();
        log.save_snapshot(&SnapshotRecord { id, conf_state: None }).unwrap();
        log.close().unwrap();
    };
    save(1, &format!(r#"{{"a":{}}}"#, node("/1/a", "null")));
    let (code, errors) = directory.run(&["check", "v2store"]);
    assert_eq!((code, &*errors), (Some(1), "Error: detected custom content in v2store\n"));
    save(2, "{}");
    directory.done(&["check", "v2store"]);
}

#[test]
fn a_progress_bar_is_drawn_on_a_terminal_only() {
    let directory = Directory::new(Some("3.7.0"));
    let piped = directory.done(&["defrag"]);
    assert!(!piped.contains(['\r', '\x1b', '%']), "{piped}");
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_etcdutl"))
        .args(["defrag", "--data-dir"])
        .arg(directory.path())
        .stderr(Stdio::from(terminal.slave))
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
    let mut shown = Vec::new();
    // At the end, a terminal whose other side is closed reports an error.
    _ = std::fs::File::from(terminal.master).read_to_end(&mut shown);
    let shown = String::from_utf8(shown).unwrap();
    assert!(
        shown.contains("########################################] ") && shown.contains(" 100%"),
        "{shown}"
    );
}

/// Runs `snapshot restore` of a file with these bytes into `dir`. Returns its exit code, its standard
/// error and the names in the new `member`.
fn restored(snapshot: &[u8], flags: &[&str]) -> (Option<i32>, String, Vec<String>) {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("s.db"), snapshot).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_etcdutl"))
        .args(["snapshot", "restore", "s.db", "--data-dir=d"])
        .args(flags)
        .current_dir(dir.path())
        .output()
        .unwrap();
    let names = std::fs::read_dir(dir.path().join("d/member")).into_iter().flatten();
    let mut names: Vec<String> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    (output.status.code(), String::from_utf8(output.stderr).unwrap(), names)
}

/// Before, a file of zeros became an empty database, and a file that was cut off left a directory with
/// a log on which a server could start.
#[test]
fn a_restore_of_a_file_that_is_no_database_fails_and_leaves_no_log() {
    let whole = Directory::new(None).bytes();
    let cut = &whole[..2 * 4096];
    let other = Directory::new(None);
    let mut db = other.open();
    let mut tx = db.begin();
    tx.delete_bucket(b"members").unwrap();
    tx.commit().unwrap();
    drop(db);
    for (what, snapshot, why) in [
        ("zeros", &[0; 65_536][..], "Error: invalid database ("),
        ("text", &[b'a'; 65_536], "Error: invalid database ("),
        ("the first pages", cut, "the file ends before its high-water mark"),
        ("no etcd's", &other.bytes(), "Error: the database has no bucket \"members\""),
    ] {
        let (code, errors, names) = restored(snapshot, &["--skip-hash-check"]);
        assert!(code == Some(1) && errors.contains(why), "{what}: {errors}");
        assert_eq!(names, ["snap"], "{what}");
    }
}

#[test]
fn a_restore_warns_that_the_revision_goes_back_unless_it_is_bumped() {
    let snapshot = Directory::new(None).bytes();
    let (code, log, names) = restored(&snapshot, &["--skip-hash-check"]);
    assert_eq!((code, names), (Some(0), vec!["snap".to_owned(), "wal".to_owned()]), "{log}");
    assert!(log.contains("warn") && log.contains("the revision goes back"), "{log}");
    assert!(log.contains("\"revision\": 5") && log.contains("--bump-revision"), "{log}");
    let flags = ["--skip-hash-check", "--bump-revision=1000", "--mark-compacted"];
    let (code, log, _) = restored(&snapshot, &flags);
    assert!(code == Some(0) && log.contains("\"new-latest-revision\": 1005"), "{log}");
    assert!(!log.contains("the revision goes back"), "{log}");
}

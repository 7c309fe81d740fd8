//! etcdutl on data directories: it changes only the requested things, and nothing in a directory
//! that is in use or too new.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use bolt::{Db, Options, PageCache};
use bytes::Bytes;
use prost::Message as _;
use proto::etcdserverpb::{DowngradeVersionTestRequest, InternalRaftRequest};
use proto::mvccpb::KeyValue;
use proto::{Entry, EntryKind, HardState, Index, NodeId, Revision, Term};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;
use tempfile::TempDir;
use vfs::RealDisk;
use wal::{Metadata, Wal};

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
        for bucket in [&b"key"[..], b"meta"] {
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

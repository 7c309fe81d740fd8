//! The bytes on disk are those of bbolt, and a file that is not a database is rejected.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use bolt::{Db, Error, Options, PageCache};
use bytes::Bytes;
use vfs::{LockKind, Mode, RealDisk, SimDisk, Vfs};

fn options(read_only: bool) -> Options {
    Options { new_page_size: 4096, cache: Arc::new(PageCache::new(1 << 20)), read_only }
}

fn content(disk: &SimDisk, len: usize) -> Vec<u8> {
    let mut content = vec![0; len];
    let file = disk.open(Path::new("db"), Mode::Read).unwrap();
    assert_eq!(file.read_at(&mut content, 0).unwrap(), len);
    content
}

/// The rows of 16 bytes that are not all zeros.
fn rows(content: &[u8]) -> String {
    let mut out = String::new();
    for (index, row) in content.chunks(16).enumerate() {
        if row.iter().any(|byte| *byte != 0) {
            write!(out, "{:06x} ", index * 16).unwrap();
            for byte in row {
                write!(out, "{byte:02x}").unwrap();
            }
            out.push('\n');
        }
    }
    out
}

/// A new file of bbolt 1.4.3 with pages of 4096 bytes.
const NEW_FILE: &str = "\
000000 00000000000000000400000000000000
000010 edda0ced020000000010000000000000
000020 03000000000000000000000000000000
000030 02000000000000000400000000000000
000040 0000000000000000eefd8946116e5107
001000 01000000000000000400000000000000
001010 edda0ced020000000010000000000000
001020 03000000000000000000000000000000
001030 02000000000000000400000000000000
001040 01000000000000000f4879511a354c26
002000 02000000000000001000000000000000
003000 03000000000000000200000000000000
";

/// The same after its first commit, without a freelist: bucket `key` with a = 1, bucket `meta`.
const FIRST_COMMIT: &str = "\
000000 00000000000000000400000000000000
000010 edda0ced020000000010000000000000
000020 04000000000000000000000000000000
000030 ffffffffffffffff0500000000000000
000040 02000000000000008075b171d1997629
001000 01000000000000000400000000000000
001010 edda0ced020000000010000000000000
001020 03000000000000000000000000000000
001030 02000000000000000400000000000000
001040 01000000000000000f4879511a354c26
002000 02000000000000001000000000000000
003000 03000000000000000200000000000000
004000 04000000000000000200020000000000
004010 01000000200000000300000032000000
004020 01000000450000000400000020000000
004030 6b657900000000000000000000000000
004040 00000000000000000000000200010000
004050 00000000000000100000000100000001
004060 00000061316d65746100000000000000
004080 00020000000000000000000000000000
";

#[test]
fn a_new_file_has_the_bytes_of_bbolt() {
    let disk = SimDisk::new(1);
    let mut db = Db::open(&disk, Path::new("db"), options(false)).unwrap();
    assert_eq!(rows(&content(&disk, 16_384)), NEW_FILE);
    let mut tx = db.begin();
    tx.create_bucket(b"meta").unwrap();
    tx.create_bucket(b"key").unwrap();
    tx.put(b"key", Bytes::from("a"), Bytes::from("1")).unwrap();
    tx.commit().unwrap();
    assert_eq!(rows(&content(&disk, 20_480)), FIRST_COMMIT);
}

#[test]
fn a_locked_file_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = Db::open(&RealDisk, &path, options(false)).unwrap();
    assert!(matches!(Db::open(&RealDisk, &path, options(false)), Err(Error::Locked { .. })));
    let file = RealDisk.open(&path, Mode::Write).unwrap();
    assert!(!file.try_lock(LockKind::Flock).unwrap());
    drop(db);
    assert!(file.try_lock(LockKind::Flock).unwrap());
}

#[test]
fn a_file_shorter_than_its_high_water_mark_is_corrupt() {
    let disk = SimDisk::new(1);
    let path = Path::new("db");
    drop(Db::open(&disk, path, options(false)).unwrap());
    let mut db = Db::open(&disk, path, options(false)).unwrap();
    let mut tx = db.begin();
    tx.create_bucket(b"key").unwrap();
    for number in 0..500_u32 {
        let key = Bytes::from(number.to_be_bytes().to_vec());
        tx.put(b"key", key, Bytes::from(vec![1; 100])).unwrap();
    }
    let view = tx.commit().unwrap();
    let pages = view.size() / 4096;
    drop((view, db));
    disk.cut(path, (pages - 2) * 4096 + 100).unwrap();
    let error = Db::open(&disk, path, options(false)).unwrap_err();
    let text = format!("db: page {}: the file ends before its high-water mark", pages - 2);
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_file_cut_short_while_it_is_open_is_corrupt() {
    let disk = SimDisk::new(1);
    let path = Path::new("db");
    let cache = Arc::new(PageCache::new(0));
    let mut db = Db::open(&disk, path, Options { cache, ..options(false) }).unwrap();
    let mut tx = db.begin();
    tx.create_bucket(b"key").unwrap();
    tx.put(b"key", Bytes::from("a"), Bytes::from(vec![1; 20_000])).unwrap();
    let view = tx.commit().unwrap();
    disk.cut(path, 8192).unwrap();
    let error = view.get(b"key", b"a").unwrap_err();
    assert_eq!(error.to_string(), "db: page 4: the file ends before the page does");
}

#[test]
fn an_existing_database_is_opened_and_none_is_created() {
    let disk = SimDisk::new(1);
    let path = Path::new("db");
    let open = || Db::open_existing(&disk, path, options(false));
    assert!(matches!(open(), Err(Error::Io { what: "open", .. })), "no file is created");
    let file = disk.open(path, Mode::Create).unwrap();
    for len in [0, 512, 65_536] {
        file.set_len(len).unwrap();
        assert!(matches!(open(), Err(Error::Corrupt { page: 0, .. })), "{len} bytes");
        assert_eq!(file.len().unwrap(), len, "the file is left as it is");
    }
    drop(file);
    drop(Db::open(&disk, path, options(false)).unwrap());
    drop(open().unwrap());
}

//! Files of six versions of Go's etcd are read correctly, also after our commits.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a test says what it skipped")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use bolt::{Db, Options, PageCache, View};
use bytes::Bytes;
use vfs::{Mode, RealDisk, SimDisk, Vfs};

fn options(read_only: bool) -> Options {
    Options { new_page_size: 4096, cache: Arc::new(PageCache::new(1 << 20)), read_only }
}

fn archives() -> Vec<PathBuf> {
    let Some(root) = std::env::var_os("RETCD_TESTDATA") else {
        println!("skipped: RETCD_TESTDATA is not set, so Go's files are not at hand");
        return Vec::new();
    };
    let dir = PathBuf::from(root).join("go-data");
    let mut archives: Vec<PathBuf> = RealDisk
        .list(&dir)
        .unwrap()
        .into_iter()
        .filter(|name| name.ends_with(".tar.gz"))
        .map(|name| dir.join(name))
        .collect();
    archives.sort();
    assert!(archives.len() >= 30, "go-data has its archives");
    archives
}

/// The databases of an archive and the answers that go with them, unpacked.
fn unpack(archive: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let wanted = ["*/snap/db", "./snapshot.db", "./expected/range.json"];
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(archive).arg("-C").arg(dir.path()).arg("--wildcards").args(wanted);
    // An archive may lack one of them, which tar reports.
    tar.stderr(std::process::Stdio::null()).status().unwrap();
    dir
}

fn read(path: &Path) -> Option<Vec<u8>> {
    if !RealDisk.exists(path).unwrap() {
        return None;
    }
    let file = RealDisk.open(path, Mode::Read).unwrap();
    let mut content = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(&mut content, 0).unwrap();
    Some(content)
}

type Pairs = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

fn pairs(view: &View) -> Pairs {
    let mut out = Pairs::new();
    for name in view.buckets() {
        let bucket = out.entry(name.to_vec()).or_default();
        let mut cursor = view.cursor(name, false);
        while let Some((key, value)) = cursor.next().unwrap() {
            bucket.insert(key.to_vec(), value.to_vec());
        }
    }
    out
}

/// The fields of a protobuf message with only varints and byte strings; numbers as bytes.
fn fields(mut message: &[u8]) -> BTreeMap<u64, Vec<u8>> {
    fn varint(message: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = message[0];
            *message = &message[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut out = BTreeMap::new();
    while !message.is_empty() {
        let tag = varint(&mut message);
        let value = varint(&mut message);
        if tag & 7 == 2 {
            let (bytes, rest) = message.split_at(usize::try_from(value).unwrap());
            out.insert(tag >> 3, bytes.to_vec());
            message = rest;
        } else {
            out.insert(tag >> 3, value.to_be_bytes().to_vec());
        }
    }
    out
}

/// The live keys and values that the bucket `key` holds.
fn live(pairs: &Pairs) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut live = BTreeMap::new();
    for (revision, value) in &pairs[&b"key"[..]] {
        let kv = fields(value);
        let key = kv[&1].clone();
        if revision.len() == 18 {
            live.remove(&key);
        } else {
            live.insert(key, kv.get(&5).cloned().unwrap_or_default());
        }
    }
    live
}

fn expected(dir: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let range = read(&dir.join("expected/range.json")).unwrap();
    let range: serde_json::Value = serde_json::from_slice(&range).unwrap();
    let bytes = |kv: &serde_json::Value, field: &str| {
        let text = kv.get(field).map_or("", |text| text.as_str().unwrap());
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    };
    let kvs = range["kvs"].as_array().unwrap();
    kvs.iter().map(|kv| (bytes(kv, "key"), bytes(kv, "value"))).collect()
}

/// Opens a file of Go's etcd, reads it, commits, and reads it again.
fn serve(image: &[u8], read_only: bool) -> Pairs {
    let disk = SimDisk::new(1);
    let path = Path::new("db");
    let file = disk.open(path, Mode::Create).unwrap();
    file.write_at(image, 0).unwrap();
    drop(file);
    let mut db = Db::open(&disk, path, options(read_only)).unwrap();
    db.check().unwrap();
    let before = pairs(&db.view());
    if !read_only {
        for number in 0..20_u8 {
            let mut tx = db.begin();
            tx.create_bucket(b"ours").unwrap();
            tx.put(b"ours", Bytes::from(vec![number + 1]), Bytes::from(vec![0; 100])).unwrap();
            tx.commit().unwrap();
            db.check().unwrap();
        }
        drop(db);
        let mut db = Db::open(&disk, path, options(false)).unwrap();
        let mut tx = db.begin();
        assert!(tx.delete_bucket(b"ours").unwrap());
        tx.commit().unwrap();
        db.check().unwrap();
        assert_eq!(pairs(&db.view()), before, "nothing of Go's is lost");
    }
    before
}

#[test]
fn files_of_gos_etcd_are_read_correctly() {
    const FILES: [&str; 5] = [
        "snapshot.db",
        "data/member/snap/db",
        "n1/member/snap/db",
        "n2/member/snap/db",
        "n4/member/snap/db",
    ];
    for archive in archives() {
        let dir = unpack(&archive);
        let mut databases = 0;
        for name in FILES {
            let Some(image) = read(&dir.path().join(name)) else { continue };
            databases += 1;
            let snapshot = name == "snapshot.db";
            let pairs = serve(&image, snapshot);
            // After a kill the newest writes are in the WAL only.
            if snapshot || archive.to_string_lossy().contains("plain-TERM") {
                assert_eq!(live(&pairs), expected(dir.path()), "{} {name}", archive.display());
            }
        }
        assert!(databases > 0, "{} has a database", archive.display());
    }
}

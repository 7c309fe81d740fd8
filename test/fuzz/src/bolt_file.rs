//! A database file: opens, reads, checks, copies and changes it, and opens it again.

use bolt::{Db, Error, Options, PageCache};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use vfs::{Mode, SimDisk, Vfs};

const FILE: &str = "db";
const PAGE: usize = 1024;

/// How many items of a bucket are read one by one.
const ITEMS_MAX: usize = 200;

/// The target; true if the file is valid.
///
/// # Panics
/// When something is found.
#[must_use]
pub fn run(data: &[u8]) -> bool {
    let disk = SimDisk::new(1);
    let Ok(file) = disk.open(Path::new(FILE), Mode::Create) else { return false };
    if file.write_at(data, 0).is_err() {
        return false;
    }
    disk.settle();
    drop(file);
    // An invalid file gives an error. A valid one is still valid after the changes.
    let is_right = write(&disk).is_ok();
    if is_right {
        let db = Db::open(&disk, Path::new(FILE), options());
        let db = db.expect("a database that was written to opens again");
        let checked = db.view().check();
        checked.expect("a database that was right and was written to is right");
    }
    is_right
}

fn options() -> Options {
    Options { new_page_size: PAGE, cache: Arc::new(PageCache::new(64 * 1024)), read_only: false }
}

/// Everything that a server does with a file.
fn write(disk: &SimDisk) -> Result<(), Error> {
    let mut db = Db::open(disk, Path::new(FILE), options())?;
    let view = db.view();
    let names: Vec<Bytes> = view.buckets().cloned().collect();
    let mut first = Ok(());
    let mut some = Vec::new();
    for name in &names {
        for cached in [true, false] {
            let walked = walk(&view, name, cached);
            match walked {
                Ok(keys) => some.extend(keys.into_iter().map(|key| (name.clone(), key))),
                Err(error) => first = Err(error),
            }
        }
    }
    for (name, key) in some.iter().take(ITEMS_MAX) {
        let (found, tried) = (view.get(name, key), view.try_get(name, key));
        assert_eq!(found.is_ok(), tried.is_ok(), "both ways of reading agree");
    }
    let checked = view.check();
    let mut copier = view.copy();
    while copier.next_chunk()?.is_some() {}
    let mut tx = db.begin();
    tx.create_bucket(b"made")?;
    tx.put(b"made", Bytes::from_static(b"key"), Bytes::from_static(b"value"))?;
    for (name, key) in some.iter().step_by(3) {
        tx.delete(name, key)?;
    }
    tx.commit()?;
    for (name, key) in some.iter().step_by(5).take(ITEMS_MAX) {
        let mut tx = db.begin();
        tx.put(name, key.clone(), Bytes::from(vec![b'v'; 300]))?;
        tx.commit()?;
    }
    if let Some(name) = names.first() {
        let mut tx = db.begin();
        tx.delete_bucket(name)?;
        tx.commit()?;
    }
    first?;
    checked
}

/// The first keys of a bucket; the cursor is read to its end.
fn walk(view: &bolt::View, bucket: &[u8], cached: bool) -> Result<Vec<Bytes>, Error> {
    let mut cursor = view.cursor(bucket, cached);
    let mut keys = Vec::new();
    while let Some((key, _)) = cursor.next()? {
        if keys.len() < ITEMS_MAX {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// Corrects the checksums of both meta pages.
#[must_use]
pub fn reseal(mut data: Vec<u8>) -> Vec<u8> {
    const META_AT: usize = 16;
    const META_LEN: usize = 64;
    let page_size = data
        .get(META_AT + 8..META_AT + 12)
        .and_then(|bytes| bytes.first_chunk::<4>())
        .and_then(|bytes| usize::try_from(u32::from_le_bytes(*bytes)).ok())
        .unwrap_or(PAGE);
    for page in [0, page_size] {
        let Some(at) = page.checked_add(META_AT) else { continue };
        let Some(meta) = at.checked_add(META_LEN).and_then(|end| data.get_mut(at..end)) else {
            continue;
        };
        let sum = meta[..META_LEN - 8].iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        meta[META_LEN - 8..].copy_from_slice(&sum.to_le_bytes());
    }
    data
}

/// Valid databases: an empty one, a small one, one with deep trees and free pages.
///
/// # Panics
/// When they cannot be written.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    [0, 12, 400].map(database).to_vec()
}

fn database(keys: u32) -> Vec<u8> {
    let disk = SimDisk::new(1);
    let mut db = Db::open(&disk, Path::new(FILE), options()).expect("a new database");
    let key = |number: u32| Bytes::from(format!("key{number:05}"));
    for round in 0..3 {
        let mut tx = db.begin();
        for bucket in [&b"key"[..], b"lease", b"meta"] {
            tx.create_bucket(bucket).expect("a disk without faults");
        }
        for number in 0..keys {
            let len = if number % 90 == 7 { 2500 } else { 40 };
            let put = tx.put(b"key", key(number * 4 + round), Bytes::from(vec![b'v'; len]));
            put.expect("a disk without faults");
        }
        tx.commit().expect("a disk without faults");
    }
    drop(db);
    let file = disk.open(Path::new(FILE), Mode::Read).expect("the file is there");
    let len = file.len().ok().and_then(|len| usize::try_from(len).ok()).unwrap_or(0);
    let mut bytes = vec![0; len];
    file.read_at(&mut bytes, 0).expect("the file can be read");
    bytes
}

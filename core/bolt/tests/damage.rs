//! Damaged and hostile files give an error with the file and page, or a result; never a panic, an
//! endless loop, or unbounded memory.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;

use bolt::{Db, Error, Options, PageCache};
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use vfs::{Mode, SimDisk, Vfs};

const PAGE: usize = 1024;

fn options() -> Options {
    Options { new_page_size: PAGE, cache: Arc::new(PageCache::new(64 * 1024)), read_only: false }
}

fn key(number: u32) -> Bytes {
    Bytes::from(format!("key{number:05}"))
}

/// A database with inline and deep buckets, overflow pages and free pages.
fn image() -> Vec<u8> {
    let disk = SimDisk::new(1);
    let mut db = Db::open(&disk, Path::new("db"), options()).unwrap();
    for round in 0..4_u32 {
        let mut tx = db.begin();
        for name in [&b"alarm"[..], b"key", b"lease", b"meta"] {
            tx.create_bucket(name).unwrap();
        }
        for number in 0..400 {
            let len = if number % 90 == 0 { 2500 } else { 40 };
            tx.put(b"key", key(number * 4 + round), Bytes::from(vec![b'v'; len])).unwrap();
        }
        tx.put(b"meta", Bytes::from("index"), Bytes::from(vec![1; 8])).unwrap();
        for number in 0..20 {
            tx.put(b"lease", key(number), Bytes::from(vec![2; 50])).unwrap();
        }
        tx.commit().unwrap();
    }
    let len = usize::try_from(db.view().size()).unwrap();
    drop(db);
    let mut image = vec![0; len];
    disk.open(Path::new("db"), Mode::Read).unwrap().read_at(&mut image, 0).unwrap();
    image
}

/// Updates the checksum of a meta page.
fn seal(image: &mut [u8], page: usize) {
    let meta = &mut image[page * PAGE + 16..page * PAGE + 80];
    let sum = meta[..56].iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    meta[56..].copy_from_slice(&sum.to_le_bytes());
}

/// All operations of a server on a file.
fn use_it(disk: &SimDisk, rng: &mut SmallRng) -> Result<(), Error> {
    let mut db = Db::open(disk, Path::new("db"), options())?;
    let view = db.view();
    let names: Vec<Bytes> = view.buckets().cloned().collect();
    let mut first = Ok(());
    for name in &names {
        for cached in [true, false] {
            let mut cursor = view.cursor(name, cached);
            loop {
                match cursor.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => {
                        first = Err(error);
                        break;
                    }
                }
            }
        }
        for number in [0, 7, 800, 1599] {
            let found = view.get(name, &key(number));
            let tried = view.try_get(name, &key(number));
            assert_eq!(found.is_ok(), tried.is_ok());
        }
    }
    let checked = view.check();
    let mut copier = view.copy();
    while copier.next_chunk()?.is_some() {}
    for _ in 0..3 {
        let mut tx = db.begin();
        for name in &names {
            let start = rng.random_range(0..1600);
            let ops = (start..start + rng.random_range(1..300)).map(|number| {
                (key(number), rng.random::<bool>().then(|| Bytes::from(vec![3; 30])))
            });
            tx.apply(name, ops.collect::<Vec<_>>().into_iter())?;
        }
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

fn disk_of(image: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1);
    let file = disk.open(Path::new("db"), Mode::Create).unwrap();
    file.write_at(image, 0).unwrap();
    disk
}

#[test]
fn flipped_bytes_never_panic() {
    let image = image();
    let pages = image.len() / PAGE;
    let (mut refused, mut accepted) = (0, 0);
    for seed in 0..4000 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut image = image.clone();
        for _ in 0..rng.random_range(1..5) {
            let page = rng.random_range(0..pages);
            // Mostly headers and elements, because changed values are valid.
            let at = match rng.random_range(0..4) {
                0 => rng.random_range(0..16),
                1 => rng.random_range(16..80),
                2 => rng.random_range(16..PAGE / 2),
                _ => rng.random_range(0..PAGE),
            };
            let byte = &mut image[page * PAGE + at];
            *byte = match rng.random_range(0..4) {
                0 => *byte ^ (1 << rng.random_range(0..8)),
                1 => rng.random(),
                2 => 0xff,
                _ => byte.wrapping_add(1),
            };
        }
        seal(&mut image, 0);
        seal(&mut image, 1);
        match use_it(&disk_of(&image), &mut rng) {
            Ok(()) => accepted += 1,
            Err(Error::Corrupt { .. } | Error::Usage(_)) => refused += 1,
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    assert!(refused > 500 && accepted > 500, "{refused} refused, {accepted} accepted");
}

#[test]
fn exchanged_pages_never_panic() {
    let image = image();
    let pages = image.len() / PAGE;
    for seed in 0..1500 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut image = image.clone();
        for _ in 0..rng.random_range(1..4) {
            let (from, to) = (rng.random_range(2..pages), rng.random_range(2..pages));
            let source = image[from * PAGE..(from + 1) * PAGE].to_vec();
            image[to * PAGE..(to + 1) * PAGE].copy_from_slice(&source);
            if rng.random() {
                // The content of another page with the right id.
                image[to * PAGE..to * PAGE + 8].copy_from_slice(&(to as u64).to_le_bytes());
            }
        }
        match use_it(&disk_of(&image), &mut rng) {
            Ok(()) | Err(Error::Corrupt { .. } | Error::Usage(_)) => {}
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
}

#[test]
fn files_of_any_length_never_panic() {
    let image = image();
    for seed in 0..300 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let len =
            if seed < 100 { rng.random_range(0..6000) } else { rng.random_range(0..image.len()) };
        let result = use_it(&disk_of(&image[..len]), &mut rng);
        // A file of zeros counts as not completely created; the first bytes are zeros.
        assert!(result.is_err() || len < 16, "seed {seed}, {len} bytes");
    }
}

#[test]
fn noise_is_not_a_database() {
    for seed in 0..100 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let noise: Vec<u8> = (0..rng.random_range(1..20_000)).map(|_| rng.random()).collect();
        let error = use_it(&disk_of(&noise), &mut rng).unwrap_err();
        assert_eq!(error.to_string(), "db: page 0: neither meta page is valid");
    }
}

#[test]
fn a_flipped_page_id_names_file_and_page() {
    let mut image = image();
    let at = image.len() - PAGE;
    image[at] ^= 0x40;
    let disk = disk_of(&image);
    let error = Db::open(&disk, Path::new("db"), options()).err();
    // The last page may be free and is then not read.
    if let Some(error) = error {
        let page = at / PAGE;
        assert_eq!(
            error.to_string(),
            format!("db: page {page}: the page carries another page's id")
        );
    }
}

fn u16_at(image: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(image[at..at + 2].try_into().unwrap())
}

fn u32_at(image: &[u8], at: usize) -> usize {
    usize::try_from(u32::from_le_bytes(image[at..at + 4].try_into().unwrap())).unwrap()
}

/// The offsets of the pages of a kind (1: branch, 2: leaf) with at least two elements.
fn pages_of(image: &[u8], kind: u16) -> Vec<usize> {
    let starts = (2 * PAGE..image.len()).step_by(PAGE);
    starts
        .filter(|at| u16_at(image, at + 8) == kind && u16_at(image, at + 10) > 1)
        .filter(|at| image[*at..at + 8] == ((at / PAGE) as u64).to_le_bytes())
        .collect()
}

/// Opens the file and reads everything; the first error.
fn error_of(image: &[u8]) -> Option<String> {
    let mut rng = SmallRng::seed_from_u64(1);
    use_it(&disk_of(image), &mut rng).err().map(|error| error.to_string())
}

#[test]
fn a_meta_page_with_a_wrong_checksum_is_not_used() {
    let image = image();
    let newest = Db::open(&disk_of(&image), Path::new("db"), options()).unwrap().view().tx_id();
    let meta = usize::try_from(newest % 2).unwrap() * PAGE;
    for at in 16..80 {
        let mut image = image.clone();
        image[meta + at] ^= 1;
        let db = Db::open(&disk_of(&image), Path::new("db"), options()).unwrap();
        assert_eq!(db.view().tx_id(), newest - 1, "byte {at}");
    }
}

#[test]
fn a_page_that_two_branches_reach_is_refused() {
    let image = image();
    let mut refused = 0;
    for page in pages_of(&image, 1) {
        let mut image = image.clone();
        let first = page + 16 + 8;
        image.copy_within(first..first + 8, first + 16);
        let error = Db::open(&disk_of(&image), Path::new("db"), options()).err();
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        refused += usize::from(error.ends_with("the page is reached twice"));
    }
    assert!(refused > 0, "a branch page is in use");
}

#[test]
fn a_page_whose_keys_are_out_of_order_is_refused() {
    let image = image();
    let mut refused = 0;
    for page in pages_of(&image, 2) {
        let mut image = image.clone();
        let keys = [page + 16, page + 32].map(|element| {
            let (at, len) = (element + u32_at(&image, element + 4), u32_at(&image, element + 8));
            at..at + len
        });
        if keys[0].len() != keys[1].len() {
            continue;
        }
        let first = image[keys[0].clone()].to_vec();
        image.copy_within(keys[1].clone(), keys[0].start);
        image[keys[1].clone()].copy_from_slice(&first);
        refused +=
            usize::from(error_of(&image).is_some_and(|it| it.ends_with("keys out of order")));
    }
    assert!(refused > 0, "a leaf page is in use");
}

#[test]
fn a_damaged_page_is_in_no_copy() {
    let disk = SimDisk::new(1);
    disk.open(Path::new("db"), Mode::Create).unwrap().write_at(&image(), 0).unwrap();
    disk.settle();
    let db = Db::open(&disk, Path::new("db"), options()).unwrap();
    let view = db.view();
    let drained = || {
        let mut copier = view.copy();
        let mut bytes = 0;
        while let Some(chunk) = copier.next_chunk()? {
            bytes += chunk.len() as u64;
        }
        Ok::<u64, Error>(bytes)
    };
    assert_eq!(drained().unwrap(), view.size());
    let pages = view.size() / PAGE as u64;
    let mut refused = 0;
    for page in 2..pages {
        disk.flip_bit(Path::new("db"), page * PAGE as u64, 0).unwrap();
        let (copied, checked) = (drained(), view.check());
        disk.flip_bit(Path::new("db"), page * PAGE as u64, 0).unwrap();
        assert_eq!(copied.is_err(), checked.is_err(), "page {page}");
        if let Err(error) = copied {
            assert!(matches!(error, Error::Corrupt { .. }), "{error}");
            refused += 1;
        }
    }
    assert!(refused > 10, "{refused} of {pages} pages");
}

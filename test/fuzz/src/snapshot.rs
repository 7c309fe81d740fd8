//! A `.snap` file with its v2 tree: decodes it, reads and writes the tree, and loads the file from
//! a disk as a start does.

use bytes::Bytes;
use prost::Message as _;
use proto::{ConfState, EntryId, Index, NodeId, Term};
use std::path::Path;
use v2store::V2Tree;
use vfs::{Mode, SimDisk, Vfs};
use wal::SnapshotRecord;
use wal::snap::{self, SnapFile};

const DIR: &str = "/snap";

/// The target; true if the input holds a tree.
///
/// # Panics
/// When something is found.
#[must_use]
pub fn run(data: &[u8]) -> bool {
    let mut is_good = false;
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(file) = snap::decode(bytes) {
        let again = snap::decode(snap::encode(&file).into());
        assert_eq!(again.as_ref(), Ok(&file), "what was read is written the same");
        is_good |= tree(&file.data);
    }
    // The input as a tree without the file around it, so that mutations reach deep into it.
    is_good |= tree(data);
    load(data);
    is_good
}

fn tree(json: &[u8]) -> bool {
    let Ok(store) = V2Tree::parse(json) else { return false };
    let written = store.to_json();
    let again = V2Tree::parse(written.as_bytes()).expect("a tree that was written is read");
    assert_eq!(again.to_json(), written, "and it is the same");
    let found = store.members().count() + store.removed_members().count();
    assert!(found < json.len(), "each member takes a byte at least");
    assert!(store.version().is_none_or(|version| version.len() <= json.len()), "it stood there");
    true
}

fn load(data: &[u8]) {
    let disk = SimDisk::new(1);
    let (dir, id) = (Path::new(DIR), EntryId { term: Term(2), index: Index(9) });
    let path = dir.join(snap::file_name(id));
    if disk.create_dir_all(dir).is_err() {
        return;
    }
    let Ok(file) = disk.open(&path, Mode::Create) else { return };
    if file.write_at(data, 0).is_err() {
        return;
    }
    disk.settle();
    // Whether it is valid does not matter here.
    drop(snap::load(&disk, dir, id));
    drop(snap::load_newest_valid(&disk, dir, &[SnapshotRecord { id, conf_state: None }]));
}

/// Corrects the checksum.
#[must_use]
pub fn reseal(data: Vec<u8>) -> Vec<u8> {
    let Ok(mut file) = proto::snappb::Snapshot::decode(data.as_slice()) else { return data };
    file.crc = Some(crc32c::crc32c(file.data.as_deref().unwrap_or_default()));
    file.encode_to_vec()
}

/// Valid files, and a tree alone.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let tree = V2Tree::default().to_json();
    let file = |data: Bytes| SnapFile {
        id: EntryId { term: Term(2), index: Index(9) },
        conf_state: ConfState { voters: vec![NodeId(7)], ..ConfState::default() },
        data,
    };
    vec![
        snap::encode(&file(Bytes::new())),
        snap::encode(&file(Bytes::from(tree.clone()))),
        tree.into_bytes(),
    ]
}

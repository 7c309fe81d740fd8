//! Creating a log.

use crate::error::Error;
use crate::frame::Encoder;
use crate::metadata::{Metadata, SnapshotRecord};
use crate::name::SegmentName;
use crate::places::Places;
use crate::record::RecordKind;
use crate::recovered::SEGMENT_BYTES;
use crate::walk::{self, OpenSegment};
use crate::write::{Spare, Wal, Written, make_segment};
use proto::{EntryId, HardState, Index};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::Vfs;

impl Wal {
    /// Creates a log. After a crash there is either the complete log or none.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is a log already. [`Error::Io`], also if the disk has no space
    /// for a whole segment; then there is no log.
    pub fn create(vfs: Arc<dyn Vfs>, dir: &Path, metadata: &Metadata) -> Result<Wal, Error> {
        Wal::create_with_segments(vfs, dir, metadata, SEGMENT_BYTES)
    }

    /// Like [`Wal::create`], with another segment length, for simulations. Readers accept any.
    ///
    /// # Errors
    /// As [`Wal::create`].
    pub fn create_with_segments(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        metadata: &Metadata,
        segment_bytes: u64,
    ) -> Result<Wal, Error> {
        if walk::exists(&*vfs, dir)? {
            return Err(Error::Exists { dir: dir.to_path_buf() });
        }
        let building = with_suffix(dir, ".tmp");
        let above = dir.parent().unwrap_or(dir);
        vfs::create_dir_durable(&*vfs, above).map_err(Error::io(above, "create"))?;
        if vfs.exists(&building).map_err(Error::io(&building, "look for"))? {
            vfs.remove_dir_all(&building).map_err(Error::io(&building, "remove"))?;
        }
        vfs.create_dir_all(&building).map_err(Error::io(&building, "create"))?;
        let name = SegmentName { seq: 0, index: Index(0) };
        let file = make_segment(&*vfs, &building.join(name.to_string()), segment_bytes)?;
        let path = dir.join(name.to_string());
        let mut wal = Wal {
            vfs,
            dir: dir.to_path_buf(),
            metadata: *metadata,
            segment_bytes,
            segments: VecDeque::from([OpenSegment { name, path, file }]),
            spare: Spare::default(),
            encoder: Encoder::new(0),
            state: HardState::default(),
            written: Written::default(),
            places: Places::after(EntryId::default()),
            poisoned: false,
        };
        wal.encoder.crc_record();
        wal.encoder.record(RecordKind::Metadata, &metadata.encode());
        wal.encoder.record(RecordKind::Snapshot, &SnapshotRecord::default().encode());
        wal.write_batch()?;
        wal.sync()?;
        wal.vfs.sync_dir(&building).map_err(Error::io(&building, "sync"))?;
        if wal.vfs.exists(dir).map_err(Error::io(dir, "look for"))? {
            wal.vfs.remove_dir_all(dir).map_err(Error::io(dir, "remove"))?;
        }
        wal.vfs.rename(&building, dir).map_err(Error::io(dir, "rename"))?;
        let named = wal.vfs.sync_dir(above).map_err(Error::io(above, "sync"));
        named.inspect_err(|_| put_aside(&*wal.vfs, dir))?;
        Ok(wal)
    }
}

/// Renames a log whose creation failed in its last step, so that the next start creates a new one
/// instead of opening this one. If the rename fails too, the next start finds a log without
/// entries.
fn put_aside(vfs: &dyn Vfs, dir: &Path) {
    let names = (0..1000).map(|number| with_suffix(dir, &format!(".broken.{number}")));
    let mut free = names.filter(|path| matches!(vfs.exists(path), Ok(false)));
    if let Some(path) = free.next() {
        vfs.rename(dir, &path).unwrap_or_default();
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

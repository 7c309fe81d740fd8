//! Flips bits on the disk of a member where the files make damage detectable: in records of the
//! log, whose checksums form a chain, in the headers of the database's pages, and in `.snap` files.
//! The member must report the damage, and must not start from it or continue. Then the operator
//! replaces the member.
//!
//! Not here, since the files do not show it: a bit inside a key or a value of the database (HashKV
//! detects it), and bits in the last two batches of the log, where damage looks like a torn write.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each function is given the kinds of faults that it handles"
)]

use super::clock::{MS, SECOND};
use super::event::Event;
use super::fault::FaultKind;
use super::world::World;
use random::Random;
use std::path::{Path, PathBuf};
use vfs::{Mode, SimDisk, Vfs as _};
use wal::{DumpedRecord, RecordKind};

/// The bytes of a page's header that are checked whenever the page is read: its id and its type.
const CHECKED_HEADER_BYTES: u64 = 10;
/// The offset of the page size in a meta page.
const PAGE_SIZE_AT: u64 = 24;
/// A damaged member runs at most this long before it is restarted, so that it reads its files.
const RUNS: u64 = 20 * SECOND;

impl World {
    /// Flips a bit in a file of a member. The fault counts once the member has detected it.
    pub(crate) fn flip(&mut self, at: usize, kind: FaultKind) {
        if !self.may_break(at) {
            return;
        }
        let host = &self.hosts[at];
        let member = host.options.data_dir.join("member");
        let disk = &host.disk;
        let place = match kind {
            FaultKind::LogFlip => place_in_log(disk, &member.join("wal"), &mut self.random),
            FaultKind::SnapFlip => place_in_snap(disk, &member.join("snap"), &mut self.random),
            _ => place_in_database(disk, &member.join("snap").join("db"), &mut self.random),
        };
        let Some((path, offset)) = place else { return };
        let bit = u32::try_from(self.random.below(8)).unwrap_or(0);
        if disk.flip_bit(&path, offset, bit).is_err() {
            return;
        }
        self.tell(|| format!("m{at}: bit {bit} of byte {offset} of {} flips", path.display()));
        let runs = 5 * MS + self.random.below(RUNS);
        let host = &mut self.hosts[at];
        host.life.damage = Some(kind);
        host.life.was_damaged = true;
        let process = host.number;
        self.agenda.after(runs, Event::Stop { at, process, power_loss: false });
    }

    /// Called when a damaged member has started: the damage was in a part that is not read any
    /// more, or in a `.snap` file that is not needed.
    pub(crate) fn starts_damaged(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let Some(kind) = host.life.damage.take() else { return };
        let dir = host.options.data_dir.join("member").join("snap");
        let is_found = host.disk.list(&dir).is_ok_and(|names| {
            kind == FaultKind::SnapFlip && names.iter().any(|name| name.ends_with(".broken"))
        });
        if is_found {
            self.tell(|| format!("m{at} does without a damaged file"));
            self.counts.faults.note(kind);
        }
    }

    /// Called when a member does not start, or stops. Returns whether its files were damaged. Then
    /// it is replaced.
    pub(crate) fn is_found_damaged(&mut self, at: usize, why: &str) -> bool {
        let host = &mut self.hosts[at];
        if !host.life.was_damaged || !host.is_member() {
            return false;
        }
        let kind = host.life.damage.take();
        self.tell(|| format!("m{at} is damaged: {why}"));
        if let Some(kind) = kind {
            self.counts.faults.note(kind);
        }
        self.break_member(at, None);
        true
    }
}

/// A position in a record that is read at the next start and is followed by complete batches.
fn place_in_log(disk: &SimDisk, dir: &Path, random: &mut Random) -> Option<(PathBuf, u64)> {
    let records = wal::dump(disk, dir).ok()?;
    let last = |kind: RecordKind, records: &[DumpedRecord]| {
        records.iter().rposition(|record| record.kind == kind)
    };
    let mut end = records.len();
    for kind in [RecordKind::Entry, RecordKind::State, RecordKind::Entry, RecordKind::State] {
        end = last(kind, &records[..end])?;
    }
    let begin = last(RecordKind::Snapshot, &records[..end]).map_or(0, |snapshot| snapshot + 1);
    let choice = &records[begin..end];
    if choice.is_empty() {
        return None;
    }
    let record = &choice[random.index(choice.len())];
    Some((record.file.clone(), record.offset + random.below(record.len)))
}

fn place_in_snap(disk: &SimDisk, dir: &Path, random: &mut Random) -> Option<(PathBuf, u64)> {
    let names = disk.list(dir).ok()?;
    let newest = names.into_iter().filter(|name| name.ends_with(".snap")).max()?;
    let path = dir.join(newest);
    let len = disk.open(&path, Mode::Read).ok()?.len().ok()?;
    (len > 0).then(|| (path, random.below(len)))
}

/// A position in the header of a page of a tree.
fn place_in_database(disk: &SimDisk, path: &Path, random: &mut Random) -> Option<(PathBuf, u64)> {
    let file = disk.open(path, Mode::Read).ok()?;
    let number = |offset: u64| {
        let mut bytes = [0; 8];
        file.read_at(&mut bytes, offset).ok()?;
        Some(u64::from_le_bytes(bytes))
    };
    let page_size = number(PAGE_SIZE_AT)? & u64::from(u32::MAX);
    let pages = file.len().ok()?.checked_div(page_size)?;
    let is_tree = |page: &u64| {
        let at = page * page_size;
        let flags = number(at + 8).map(|word| word & 0xffff);
        number(at) == Some(*page) && matches!(flags, Some(1 | 2))
    };
    let trees: Vec<u64> = (2..pages).filter(is_tree).collect();
    if trees.is_empty() {
        return None;
    }
    let page = trees[random.index(trees.len())];
    Some((path.to_path_buf(), page * page_size + random.below(CHECKED_HEADER_BYTES)))
}

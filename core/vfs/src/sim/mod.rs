//! [`SimDisk`]: a disk in memory that loses unsynced data in a crash, deterministically by seed.
//!
//! - Each call that changes the disk is a *point*, numbered from 1; see [`SimDisk::points`].
//! - [`SimDisk::crash_image`] is a possible state of the disk after a crash: each unsynced 512-byte
//!   sector and each unsynced name is independently new, old, or a version in between. A sector is
//!   never torn, and a rename is atomic.
//! - Copies share blocks, so an image costs about as much as the unsynced data.
//! - Faults ([`Injection`]) make calls fail. A failed sync behaves as on Linux: the data stays
//!   readable in the page cache but counts as clean, so that a later sync does not write it; only
//!   writing the bytes again does. A restart on the same disk or on a [`SimDisk::fork`] keeps that
//!   state, and [`SimDisk::crash_image`] loses the data. Names of a failed [`Vfs::sync_dir`] stay
//!   dirty.
//!
//! Calls take no time here; the simulation of a cluster adds it.

mod content;
mod fault;
mod file;
mod state;
#[cfg(test)]
mod tests;

use crate::{File, LockKind, Mode, Vfs};
pub use fault::{Fault, Injection, Operation};
use file::FileNode;
use state::{DiskState, Node, NodeId, Record};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The disk at a point, during the call: its effect is visible and not durable.
#[derive(Debug)]
pub struct Recorded {
    /// The number of the point.
    pub point: u64,
    /// The call.
    pub operation: Operation,
    /// The path of the call.
    pub path: PathBuf,
    /// The newest [`SimDisk::set_tag`].
    pub tag: u64,
    /// A copy of the disk, from which crash images can be made.
    pub disk: SimDisk,
}

/// A disk in memory. A clone is another handle to the same disk; see [`SimDisk::fork`] for a copy.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<DiskState>>,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("points", &self.points()).finish_non_exhaustive()
    }
}

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::new(0)
    }
}

impl SimDisk {
    /// An empty disk. The seed decides what a failed sync loses and which bits flip.
    #[must_use]
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::from_state(DiskState::new(seed))
    }

    fn from_state(state: DiskState) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, DiskState> {
        // After a panic in one thread of a test, others can still read the disk.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless the machine has stopped.
    fn running(&self) -> io::Result<MutexGuard<'_, DiskState>> {
        let state = self.lock();
        if state.control.stopped { Err(Fault::Stop.error()) } else { Ok(state) }
    }

    /// How many points have passed.
    #[must_use]
    pub fn points(&self) -> u64 {
        self.lock().points
    }

    /// An exact copy with its unsynced data. It has no open files, no locks and no armed faults.
    #[must_use]
    pub fn fork(&self) -> SimDisk {
        SimDisk::from_state(self.lock().fork())
    }

    /// A possible state of the disk if the machine crashed now. Everything on it is durable.
    #[must_use]
    pub fn crash_image(&self, seed: u64) -> SimDisk {
        SimDisk::from_state(self.lock().after_crash(seed))
    }

    /// Whether a crash may lose something.
    #[must_use]
    pub fn has_unsynced(&self) -> bool {
        self.lock().has_unsynced()
    }

    /// Records a copy of the disk at each point that is a multiple of `points`; 0 stops recording.
    pub fn record_every(&self, points: u64) {
        self.lock().control.record_every = points;
    }

    /// Removes and returns the recorded copies.
    #[must_use]
    pub fn take_recorded(&self) -> Vec<Recorded> {
        let recorded = std::mem::take(&mut self.lock().control.recorded);
        let with_disk = |record: Record| {
            let Record { point, operation, path, tag, state } = record;
            Recorded { point, operation, path, tag, disk: SimDisk::from_state(state) }
        };
        recorded.into_iter().map(with_disk).collect()
    }

    /// Sets a number, such as the test's progress, that later copies and images carry.
    pub fn set_tag(&self, tag: u64) {
        self.lock().tag = tag;
    }

    /// The newest [`SimDisk::set_tag`].
    #[must_use]
    pub fn tag(&self) -> u64 {
        self.lock().tag
    }

    /// Arms a fault.
    pub fn inject(&self, injection: Injection) {
        self.lock().control.injections.push(injection);
    }

    /// Removes all armed faults.
    pub fn disarm(&self) {
        self.lock().control.injections.clear();
    }

    /// Makes the machine stop at a point.
    pub fn stop_at(&self, point: u64) {
        self.inject(Injection::at(point, Fault::Stop));
    }

    /// Makes every `reads`-th [`File::try_read_at`] return `None`; 0, the default, none, and 1
    /// all.
    pub fn set_cached_reads_miss_every(&self, reads: u64) {
        self.lock().control.cached_reads_miss_every = reads;
    }

    /// Overwrites bytes durably, without a point.
    ///
    /// # Errors
    /// If the file does not exist, or ends before the bytes do.
    pub fn tamper(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        let id = state.find(path)?;
        let file = state.file_mut(id)?;
        if offset.saturating_add(bytes.len() as u64) > file.current().len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.tamper(|content| content.write(bytes, offset));
        Ok(())
    }

    /// Flips one bit durably, without a point.
    ///
    /// # Errors
    /// If the file does not exist, or ends before `offset`.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u32) -> io::Result<()> {
        let mut byte = [0];
        let id = self.lock().find(path)?;
        self.lock().file(id)?.current().read(&mut byte, offset);
        self.tamper(path, offset, &[byte[0] ^ (1 << (bit % 8))])
    }

    /// Truncates a file durably, without a point.
    ///
    /// # Errors
    /// If the file does not exist.
    pub fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut state = self.lock();
        let id = state.find(path)?;
        state.file_mut(id)?.tamper(|content| content.set_len(len));
        Ok(())
    }

    /// Makes everything durable, without a point.
    pub fn settle(&self) {
        self.lock().settle();
    }

    /// Performs a call that is a point and changes the disk's state.
    fn change<T>(
        &self,
        operation: Operation,
        path: &Path,
        apply: impl FnOnce(&mut DiskState) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.lock();
        match state.enter(operation, path)? {
            None => {
                let done = apply(&mut state)?;
                state.record(operation, path);
                Ok(done)
            }
            Some(Fault::Stop) => {
                apply(&mut state)?;
                state.control.stopped = true;
                Err(Fault::Stop.error())
            }
            Some(fault @ (Fault::Io | Fault::NoSpace | Fault::BitFlip)) => Err(fault.error()),
        }
    }
}

impl Vfs for SimDisk {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let found = self.lock().place(path)?.node;
        let node = match (found, mode) {
            (Some(_), Mode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, Mode::Read | Mode::Write) => return Err(io::ErrorKind::NotFound.into()),
            (Some(node), Mode::Read | Mode::Write | Mode::Create) => node,
            (None, Mode::Create | Mode::CreateNew) => {
                self.change(Operation::Create, path, |state| {
                    let place = state.place(path)?;
                    state.create(place, Node::File(FileNode::default()))
                })?
            }
        };
        let mut state = self.running()?;
        state.file(node)?;
        let handle = state.open_handle(node);
        let writable = mode != Mode::Read;
        let path = path.to_path_buf();
        Ok(Arc::new(SimFile { disk: self.clone(), path, node, handle, writable }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.running()?.names(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.running()?.place(path) {
            Ok(place) => Ok(place.node.is_some()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if self.exists(dir)? {
            return self.lock().names(dir).map(drop);
        }
        self.change(Operation::CreateDir, dir, |state| state.create_dirs(dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(Operation::Rename, to, |state| state.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change(Operation::Remove, path, |state| state.remove_file(path))
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.change(Operation::Remove, dir, |state| state.remove_dir_all(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let fault = state.enter(Operation::SyncDir, dir)?;
        state.record(Operation::SyncDir, dir);
        match fault {
            None => state.sync_dir(dir),
            Some(fault) => {
                state.control.stopped |= fault == Fault::Stop;
                Err(fault.error())
            }
        }
    }
}

struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    node: NodeId,
    handle: u64,
    writable: bool,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimFile").field(&self.path).finish()
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk.lock().close_handle(self.node, self.handle);
    }
}

impl SimFile {
    fn change(
        &self,
        operation: Operation,
        apply: impl FnOnce(&mut FileNode) -> io::Result<()>,
    ) -> io::Result<()> {
        self.check_writable()?;
        self.disk.change(operation, &self.path, |state| apply(state.file_mut(self.node)?))
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl File for SimFile {
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.running()?.file(self.node)?.current().len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.lock();
        let fault = state.enter(Operation::Read, &self.path)?;
        let count = state.file(self.node)?.current().read(buf, offset);
        match fault {
            None => {}
            Some(Fault::BitFlip) => {
                let bit = state.rng.below(count as u64 * 8);
                if let Some(byte) = usize::try_from(bit / 8).ok().and_then(|at| buf.get_mut(at)) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Some(fault) => {
                state.control.stopped |= fault == Fault::Stop;
                return Err(fault.error());
            }
        }
        Ok(count)
    }

    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        {
            let control = &mut self.disk.lock().control;
            control.cached_reads += 1;
            let every = control.cached_reads_miss_every;
            if every != 0 && control.cached_reads.is_multiple_of(every) {
                return Ok(None);
            }
        }
        self.read_at(buf, offset).map(Some)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        DiskState::check_end(offset, buf.len() as u64)?;
        let mut state = self.disk.lock();
        let fault = state.enter(Operation::Write, &self.path)?;
        let done = match fault {
            None | Some(Fault::Stop) => buf,
            Some(Fault::Io | Fault::NoSpace | Fault::BitFlip) => &buf[..buf.len() / 2],
        };
        state.file_mut(self.node)?.write(done, offset);
        state.record(Operation::Write, &self.path);
        match fault {
            None => Ok(()),
            Some(fault) => {
                state.control.stopped |= fault == Fault::Stop;
                Err(fault.error())
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        let fault = state.enter(Operation::Sync, &self.path)?;
        state.record(Operation::Sync, &self.path);
        match fault {
            None => {
                state.file_mut(self.node)?.sync();
                Ok(())
            }
            Some(Fault::Stop) => {
                state.control.stopped = true;
                Err(Fault::Stop.error())
            }
            Some(fault @ (Fault::Io | Fault::NoSpace | Fault::BitFlip)) => {
                state.sync_fails(self.node)?;
                Err(fault.error())
            }
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        DiskState::check_end(0, len)?;
        self.change(Operation::SetLen, |file| {
            file.set_len(len);
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        DiskState::check_end(0, len)?;
        self.change(Operation::Allocate, |file| {
            if file.current().len() < len {
                file.set_len(len);
            }
            Ok(())
        })
    }

    fn try_lock(&self, kind: LockKind) -> io::Result<bool> {
        Ok(self.disk.running()?.try_lock(self.node, kind, self.handle))
    }

    fn unlock(&self, kind: LockKind) -> io::Result<()> {
        self.disk.lock().unlock(self.node, kind, self.handle);
        Ok(())
    }
}

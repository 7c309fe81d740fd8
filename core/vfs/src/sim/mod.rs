//! [`SimDisk`]: a disk in memory that loses what was not synced, deterministically by seed.
//!
//! - Each call that changes something is a *point*, numbered from 1; see [`SimDisk::points`].
//! - [`SimDisk::crash_image`] is the disk as it could be found after a crash: each 512-byte sector
//!   and each name that was not synced is kept, lost, or as it was at some moment between, by
//!   itself. A sector is never torn; a rename is never half done.
//! - Copies share blocks, so an image costs about as much as what was not synced.
//! - Faults ([`Injection`]) make calls fail. A failed sync behaves as on Linux: the data stays
//!   readable in the page cache but counts as clean, so that a later sync does not write it; only
//!   writing the bytes again does. A restart on the same disk or on a [`SimDisk::fork`] keeps that
//!   state, and [`SimDisk::crash_image`] loses the data. Names of a failed [`Vfs::sync_dir`] stay
//!   dirty.
//!
//! Not here: time (the simulation of a cluster charges it).

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

/// The disk at a point, with the call of that point under way: what the call does is there, and
/// nothing of it is durable.
#[derive(Debug)]
pub struct Recorded {
    /// The number of the point.
    pub point: u64,
    /// The call.
    pub operation: Operation,
    /// On what.
    pub path: PathBuf,
    /// The newest [`SimDisk::set_tag`].
    pub tag: u64,
    /// A copy, of which [`SimDisk::crash_image`] can be taken at leisure.
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
        // A test that panicked elsewhere must still be able to look at the disk.
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

    /// An exact copy, unsynced parts included; nobody has its files open, and no fault waits.
    #[must_use]
    pub fn fork(&self) -> SimDisk {
        SimDisk::from_state(self.lock().fork())
    }

    /// The disk as it could be found if the machine crashed now. Everything on it is durable.
    #[must_use]
    pub fn crash_image(&self, seed: u64) -> SimDisk {
        SimDisk::from_state(self.lock().after_crash(seed))
    }

    /// From now on keeps a copy of the disk at every point whose number `points` divides; 0 ends it.
    pub fn record_every(&self, points: u64) {
        self.lock().control.record_every = points;
    }

    /// Takes the copies kept so far.
    #[must_use]
    pub fn take_recorded(&self) -> Vec<Recorded> {
        let recorded = std::mem::take(&mut self.lock().control.recorded);
        let with_disk = |record: Record| {
            let Record { point, operation, path, tag, state } = record;
            Recorded { point, operation, path, tag, disk: SimDisk::from_state(state) }
        };
        recorded.into_iter().map(with_disk).collect()
    }

    /// A number that goes with the copies and images made from now on: how far the test has come.
    pub fn set_tag(&self, tag: u64) {
        self.lock().tag = tag;
    }

    /// The newest [`SimDisk::set_tag`].
    #[must_use]
    pub fn tag(&self) -> u64 {
        self.lock().tag
    }

    /// Lets a fault wait.
    pub fn inject(&self, injection: Injection) {
        self.lock().control.injections.push(injection);
    }

    /// Lets the machine stop at this point.
    pub fn stop_at(&self, point: u64) {
        self.inject(Injection::at(point, Fault::Stop));
    }

    /// Lets every `reads`-th [`File::try_read_at`] say that it would have to wait; 0 (as at
    /// first) none, 1 all.
    pub fn set_cached_reads_miss_every(&self, reads: u64) {
        self.lock().control.cached_reads_miss_every = reads;
    }

    /// Changes bytes behind the program's back, durably, without a point.
    ///
    /// # Errors
    /// When there is no such file, or the bytes do not lie in it.
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

    /// Turns one bit over, durably, without a point.
    ///
    /// # Errors
    /// When there is no such file, or it is not that long.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u32) -> io::Result<()> {
        let mut byte = [0];
        let id = self.lock().find(path)?;
        self.lock().file(id)?.current().read(&mut byte, offset);
        self.tamper(path, offset, &[byte[0] ^ (1 << (bit % 8))])
    }

    /// Cuts a file behind the program's back, durably, without a point.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut state = self.lock();
        let id = state.find(path)?;
        state.file_mut(id)?.tamper(|content| content.set_len(len));
        Ok(())
    }

    /// Makes everything durable, without a point: the state from which a test begins.
    pub fn settle(&self) {
        self.lock().settle();
    }

    /// A point at which a call changes the disk in memory.
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

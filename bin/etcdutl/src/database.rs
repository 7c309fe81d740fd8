//! The database file of a member that is not running.

use crate::failure::{Code, CommandResult, io_failure};
use bolt::{Db, Options, PageCache, View};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfs::RealDisk;

const PAGE_CACHE_BYTES: usize = 16 << 20;
const NEW_PAGE_SIZE: usize = 4096;

/// How a database is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Without writing to it.
    Read,
    /// For writing.
    Write,
}

/// The database file in a data directory, which must exist.
///
/// # Errors
/// When it does not exist, or cannot be looked up.
pub(crate) fn of_data_dir(data_dir: &str) -> CommandResult<PathBuf> {
    let path = Path::new(data_dir).join("member").join("snap").join("db");
    must_exist(&path)?;
    Ok(path)
}

/// Checks that a file exists.
///
/// # Errors
/// When it does not exist, or cannot be looked up.
pub(crate) fn must_exist(path: &Path) -> CommandResult {
    let found = std::fs::metadata(path);
    found.map_err(|error| io_failure("stat", &path.display().to_string(), &error))?;
    Ok(())
}

/// Opens an existing database, waiting for its lock.
///
/// # Errors
/// When it is not a database, is damaged, cannot be read, or stays locked.
pub(crate) fn open(path: &Path, access: Access, wait: Duration) -> CommandResult<Db> {
    const PAUSE: Duration = Duration::from_millis(50);
    let start = Instant::now();
    loop {
        match Db::open_existing(&RealDisk, path, options(access, NEW_PAGE_SIZE)) {
            // A timeout of zero means no timeout.
            Err(bolt::Error::Locked { .. }) if wait.is_zero() || start.elapsed() < wait => {
                std::thread::sleep(PAUSE);
            }
            Err(bolt::Error::Locked { .. }) => return Err(Code::Error.with("timeout")),
            Err(error) if is_no_database(&error, path) => {
                return Err(Code::Error.with(format!("invalid database ({error})")));
            }
            other => return other.map_err(|error| Code::Error.with(error)),
        }
    }
}

/// Creates a database beside another one, with the same page size.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn create(path: &Path, like: &View) -> CommandResult<Db> {
    let options = options(Access::Write, like.page_size());
    Db::open(&RealDisk, path, options).map_err(|error| Code::Error.with(error))
}

/// Creates a database.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn create_new(path: &Path) -> CommandResult<Db> {
    let options = options(Access::Write, NEW_PAGE_SIZE);
    Db::open(&RealDisk, path, options).map_err(|error| Code::Error.with(error))
}

fn options(access: Access, new_page_size: usize) -> Options {
    let cache = Arc::new(PageCache::new(PAGE_CACHE_BYTES));
    Options { new_page_size, cache, read_only: access == Access::Read }
}

/// True if the path is a directory, or its first pages are not those of a database.
fn is_no_database(error: &bolt::Error, path: &Path) -> bool {
    matches!(error, bolt::Error::Corrupt { page: 0, .. }) || path.is_dir()
}

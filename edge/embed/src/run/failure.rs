//! Why a server did not start, and the line of the log that says so.
//!
//! etcd logs `discovery failed` for every one of these. Here the message names the failure; the
//! reason in `error` keeps etcd's words where etcd has some.

use executor::BootError;
use net::BindError;
use server::StartError;
use std::path::{Path, PathBuf};

/// Why a server did not start.
#[derive(Debug)]
pub(super) enum StartFailure {
    /// A port cannot be listened on: that of `peer`, `client` or `metrics` URLs.
    Port(&'static str, BindError),
    /// The data directory cannot be used.
    Data(StartError),
    /// The check whether there is a log has failed.
    Log(wal::Error),
    /// The memory cannot be locked.
    Memory(std::io::Error),
    /// The discovery service has not let this member join.
    Discovery {
        /// Whether the cluster has all of its members.
        is_full: bool,
        token: String,
        endpoints: Vec<String>,
        error: String,
    },
    /// Anything else, in words.
    Other(String),
}

impl From<String> for StartFailure {
    fn from(why: String) -> StartFailure {
        StartFailure::Other(why)
    }
}

/// Where a file is damaged.
#[derive(Debug, Default)]
struct DamagedPlace {
    file: Option<PathBuf>,
    /// In bytes.
    offset: Option<u64>,
    /// Of the database.
    page: Option<u64>,
}

impl DamagedPlace {
    fn of_log(error: &wal::Error) -> Option<DamagedPlace> {
        let wal::Error::Corrupt { file, offset, .. } = error else { return None };
        let (file, offset) = (Some(file.clone()), Some(*offset));
        Some(DamagedPlace { file, offset, ..DamagedPlace::default() })
    }

    fn of_database(error: &backend::Error, db: &Path) -> Option<DamagedPlace> {
        let (file, page) = match error {
            backend::Error::Bolt(bolt::Error::Corrupt { file, page, .. }) => (&**file, Some(*page)),
            backend::Error::Corrupt { .. } => (db, None),
            backend::Error::Bolt(_) => return None,
        };
        let file = Some(file.to_owned());
        Some(DamagedPlace { file, page, ..DamagedPlace::default() })
    }

    fn of_state(error: &state::Fatal, db: &Path) -> Option<DamagedPlace> {
        match error {
            state::Fatal::Store(mvcc::Error::Backend(error)) => Self::of_database(error, db),
            state::Fatal::Store(mvcc::Error::Corrupt { .. }) | state::Fatal::Corrupt(_) => {
                Some(DamagedPlace { file: Some(db.to_owned()), ..DamagedPlace::default() })
            }
            state::Fatal::Entry { .. } | state::Fatal::Unsupported(_) => None,
        }
    }
}

impl StartFailure {
    /// Logs the failure. `db` is the path of the database.
    pub(super) fn log(&self, db: &Path) {
        match self {
            StartFailure::Port(urls, error) => {
                let address = &error.address;
                let error = error.to_string();
                tracing::error!(level = "fatal", urls, address, error, "cannot listen on a port");
            }
            StartFailure::Data(StartError::Boot(error)) => log_boot(error, db),
            StartFailure::Data(error @ StartError::Locked(file)) => {
                let (file, error) = (file.display().to_string(), error.to_string());
                let message = "the data directory is in use by another process";
                tracing::error!(level = "fatal", file, error, "{message}");
            }
            StartFailure::Log(error) => log_log(error),
            StartFailure::Memory(error) => {
                let error = format!("mlock error: {}", crate::logging::plain(error));
                let message = "cannot lock the memory: raise the limit (ulimit -l unlimited, or \
                     LimitMEMLOCK=infinity) or start without --memory-mlock";
                tracing::error!(level = "fatal", error, "{message}");
            }
            StartFailure::Discovery { is_full: true, token, endpoints, error } => {
                tracing::warn!(
                    "discovery-token" = token,
                    "discovery-endpoints" = ?endpoints,
                    error,
                    "failed to bootstrap; discovery token was already used"
                );
                let message = "do not reuse discovery token; generate a new one to bootstrap a \
                               cluster";
                tracing::warn!("{message}");
            }
            StartFailure::Discovery { token, endpoints, error, .. } => tracing::error!(
                level = "fatal",
                "discovery-token" = token,
                "discovery-endpoints" = ?endpoints,
                error,
                "discovery failed"
            ),
            StartFailure::Other(error) => {
                tracing::error!(level = "fatal", error, "cannot start the server");
            }
        }
    }
}

fn log_boot(error: &BootError, db: &Path) {
    let damaged = match error {
        BootError::Log(error) => return log_log(error),
        BootError::Backend(error) => DamagedPlace::of_database(error, db),
        BootError::State(error) => DamagedPlace::of_state(error, db),
        BootError::Locked(_) | BootError::Mismatch(_) | BootError::Directory(..) => None,
    };
    let message = match error {
        _ if damaged.is_some() => "the database is damaged",
        BootError::Mismatch(_) => "the files of the data directory are inconsistent",
        BootError::State(state::Fatal::Unsupported(_)) => {
            "the data uses a feature that is not built yet"
        }
        BootError::State(_) => "the data cannot be restored",
        BootError::Locked(_)
        | BootError::Log(_)
        | BootError::Backend(_)
        | BootError::Directory(..) => "the data directory cannot be used",
    };
    log_damage(message, &error.to_string(), damaged.unwrap_or_default());
}

fn log_log(error: &wal::Error) {
    let damaged = DamagedPlace::of_log(error);
    let message = if damaged.is_some() { "the log is damaged" } else { "the log cannot be opened" };
    log_damage(message, &error.to_string(), damaged.unwrap_or_default());
}

fn log_damage(message: &str, error: &str, place: DamagedPlace) {
    let file = place.file.map(|file| file.display().to_string());
    let (offset, page) = (place.offset, place.page);
    tracing::error!(level = "fatal", file, offset, page, error, "{message}");
}

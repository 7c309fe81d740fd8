//! A file of limited size for lines, the log's or the audit log's: when it is full, it is renamed, and
//! a new one is begun. The renamed files are compressed and removed by the rules of
//! `--log-rotation-config-json`, or those of `--audit-log-max-bytes` and `--audit-log-max-files`.
//!
//! - A renamed file has the time of its renaming in its name: `etcd.log` becomes
//!   `etcd-2016-11-04T18-30-00.000.log`, and `….log.gz` once it is compressed.
//!   No file replaces another one: where there is one of that time, the next free millisecond counts.
//! - Only files with such names are compressed and removed, on a thread of their own.
//! - If a file cannot be renamed, it is written on, and renaming is tried again when as many bytes
//!   have been added.
//!
//! Source: etcd server/embed/config_logging.go @ v3.7.1 (`setupLogRotation`); lumberjack 2.2.1.

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

/// The error for outputs that cannot be rotated.
pub(crate) const NO_SINGLE_FILE: &str =
    "--log-outputs requires a single file path when --log-rotate-config-json is defined";

const MEGABYTE: u64 = 1024 * 1024;
/// The size of a file without `maxsize`, in megabytes.
const MEGABYTES: u64 = 100;
/// The time in a name. It has a fixed length.
const TIME: &str = "%Y-%m-%dT%H-%M-%S%.3f";
const TIME_LEN: usize = "2006-01-02T15-04-05.000".len();
const COMPRESSED: &str = ".gz";
/// The permissions of a new log file and of a new folder for it.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o755;

/// When a file is renamed, and what becomes of the renamed ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The size at which a file is renamed, in bytes: `maxsize`, in megabytes.
    pub bytes_max: u64,
    /// The age in days at which a renamed file is removed, 0 for never: `maxage`.
    pub days_max: u32,
    /// How many renamed files are kept, `None` for all: `maxbackups`, where 0 stands for all.
    pub backups_max: Option<usize>,
    /// Whether names have the local time, and not UTC: `localtime`.
    pub local_time: bool,
    /// Whether renamed files are compressed with gzip: `compress`.
    pub compress: bool,
}

impl Rotation {
    /// Reads the value of `--log-rotation-config-json`. As in Go, the case of a name does not matter,
    /// and other names are ignored.
    ///
    /// # Errors
    /// In etcd's words; and, other than with etcd, for a negative number.
    pub(crate) fn parse(text: &str) -> Result<Rotation, String> {
        let json: Json = serde_json::from_str(text).map_err(|error| {
            let why = match error.is_eof() {
                true => "unexpected end of JSON input".to_owned(),
                false => error.to_string(),
            };
            format!("improperly formatted log rotation config: {why}")
        })?;
        let Json::Object(fields) = &json else {
            return Err(mistyped(&json, "Go value", "embed.logRotationConfig"));
        };
        let field = |wanted: &str| {
            let found = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value).filter(|value| !value.is_null())
        };
        let place = |name: &str| format!("Go struct field logRotationConfig.Logger.{name}");
        let number = |name: &str| match field(name) {
            None => Ok(0),
            Some(value) => match value.as_i64() {
                None => Err(mistyped(value, &place(name), "int")),
                Some(number) => u32::try_from(number).map_err(|_| {
                    format!(
                        "invalid log rotation config: {name} is {number}, not 0 to {}",
                        u32::MAX
                    )
                }),
            },
        };
        let switch = |name: &str| match field(name) {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| mistyped(value, &place(name), "bool")),
        };
        let megabytes = match number("maxsize")? {
            0 => MEGABYTES,
            given => u64::from(given),
        };
        Ok(Rotation {
            bytes_max: megabytes * MEGABYTE,
            days_max: number("maxage")?,
            backups_max: match number("maxbackups")? {
                0 => None,
                given => usize::try_from(given).ok(),
            },
            local_time: switch("localtime")?,
            compress: switch("compress")?,
        })
    }

    /// Whether something is to be done with renamed files.
    fn cleans(&self) -> bool {
        self.days_max > 0 || self.backups_max.is_some() || self.compress
    }

    fn zone(&self) -> TimeZone {
        if self.local_time { TimeZone::system() } else { TimeZone::UTC }
    }
}

fn mistyped(value: &Json, place: &str, wanted: &str) -> String {
    let kind = match value {
        Json::Null => "null".to_owned(),
        Json::Bool(_) => "bool".to_owned(),
        Json::Number(number) if wanted == "int" => format!("number {number}"),
        Json::Number(_) => "number".to_owned(),
        Json::String(_) => "string".to_owned(),
        Json::Array(_) => "array".to_owned(),
        Json::Object(_) => "object".to_owned(),
    };
    format!(
        "invalid log rotation config: json: cannot unmarshal {kind} into {place} of type {wanted}"
    )
}

/// A file that is renamed when it is full.
#[derive(Debug)]
pub(crate) struct RotatingFile {
    backups: Backups,
    file: File,
    /// Bytes in the file, or since the last failure to rename it.
    bytes: u64,
    /// Wakes the thread that cleans up.
    cleaning: Option<SyncSender<()>>,
}

impl RotatingFile {
    /// Opens a file, which may have content. Creates its folder.
    pub(crate) fn open(path: &Path, rules: Rotation) -> io::Result<RotatingFile> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
        }
        let file = open(path, FILE_MODE)?;
        let bytes = file.metadata()?.len();
        let backups = Backups { path: path.to_owned(), rules };
        let cleaning = backups.rules.cleans().then(|| start_cleaning(&backups)).transpose()?;
        let this = RotatingFile { backups, file, bytes, cleaning };
        this.clean();
        Ok(this)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.backups.path
    }

    /// Appends lines. Lines that do not fit begin a new file.
    pub(crate) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let bytes = self.bytes.saturating_add(line.len() as u64);
        if bytes > self.backups.rules.bytes_max && self.bytes > 0 {
            self.bytes = 0;
            self.file = self.backups.rotate(&self.file, Timestamp::now())?;
            self.clean();
        }
        self.file.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn clean(&self) {
        let Some(cleaning) = &self.cleaning else { return };
        match cleaning.try_send(()) {
            // It is to be woken already.
            Ok(()) | Err(TrySendError::Full(())) => {}
            // There is no place to report that the thread has ended.
            Err(TrySendError::Disconnected(())) => {}
        }
    }
}

fn open(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(mode).open(path)
}

/// Starts the thread that compresses and removes renamed files.
fn start_cleaning(backups: &Backups) -> io::Result<SyncSender<()>> {
    let (wake, woken) = sync_channel(1);
    let backups = backups.clone();
    std::thread::Builder::new().name("log files".to_owned()).spawn(move || {
        while let Ok(()) = woken.recv() {
            if backups.clean(Timestamp::now()).is_err() {
                // There is no place to report it; the next rotation tries again.
            }
        }
    })?;
    Ok(wake)
}

/// The renamed files of a file.
#[derive(Clone, Debug)]
struct Backups {
    /// The file that is written.
    path: PathBuf,
    rules: Rotation,
}

/// A renamed file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Backup {
    renamed: Timestamp,
    path: PathBuf,
}

impl Backups {
    /// Renames the log file and opens a new one with the same permissions and owner.
    fn rotate(&self, full: &File, now: Timestamp) -> io::Result<File> {
        let before = full.metadata()?;
        fs::rename(&self.path, self.free_name(now))?;
        let file = open(&self.path, before.mode())?;
        if std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid())).is_err() {
            // Only the superuser may keep the owner of the file before.
        }
        Ok(file)
    }

    /// The parts of a renamed file's name around the time.
    fn name_parts(&self) -> (String, String) {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        // As in Go, the extension of `.log` is the whole name.
        let at = name.rfind('.').unwrap_or(name.len());
        (format!("{}-", &name[..at]), name[at..].to_owned())
    }

    /// The name for a file that is renamed now: of the first millisecond from now on that no other
    /// file has.
    fn free_name(&self, now: Timestamp) -> PathBuf {
        let mut time = now;
        loop {
            let name = self.renamed(time);
            let mut compressed = name.clone().into_os_string();
            compressed.push(COMPRESSED);
            if !name.exists() && !Path::new(&compressed).exists() {
                return name;
            }
            time += SignedDuration::from_millis(1);
        }
    }

    fn renamed(&self, now: Timestamp) -> PathBuf {
        let (before, after) = self.name_parts();
        let time = now.to_zoned(self.rules.zone()).strftime(TIME);
        self.path.with_file_name(format!("{before}{time}{after}"))
    }

    /// The time in the name of a renamed file; `None` for any other file.
    fn time(&self, name: &str) -> Option<Timestamp> {
        let (before, after) = self.name_parts();
        let name = name.strip_suffix(COMPRESSED).unwrap_or(name);
        let time = name.strip_prefix(&before)?.strip_suffix(&after)?;
        let time = DateTime::strptime(TIME, Some(time).filter(|time| time.len() == TIME_LEN)?);
        Some(time.ok()?.to_zoned(self.rules.zone()).ok()?.timestamp())
    }

    /// The renamed files, the newest first.
    fn list(&self) -> io::Result<Vec<Backup>> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut found = Vec::new();
        for entry in fs::read_dir(folder.unwrap_or_else(|| Path::new(".")))? {
            let entry = entry?;
            let time = entry.file_name().to_str().and_then(|name| self.time(name));
            if let Some(renamed) =
                time.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_file()))
            {
                found.push(Backup { renamed, path: entry.path() });
            }
        }
        found.sort_by(|a, b| b.cmp(a));
        Ok(found)
    }

    /// Removes and compresses renamed files. Goes on after a failure, and returns the first one.
    fn clean(&self, now: Timestamp) -> io::Result<()> {
        let oldest = now - SignedDuration::from_hours(24 * i64::from(self.rules.days_max));
        let mut kept = BTreeSet::new();
        let mut result = Ok(());
        for Backup { renamed, path } in self.list()? {
            // A file counts once, even if both its forms are there.
            kept.insert(renamed);
            let is_old = self.rules.days_max > 0 && renamed < oldest;
            let is_surplus = self.rules.backups_max.is_some_and(|max| kept.len() > max);
            let is_compressed = path.extension().is_some_and(|end| end == "gz");
            let done = if is_old || is_surplus {
                fs::remove_file(&path)
            } else if self.rules.compress && !is_compressed {
                compress(&path)
            } else {
                Ok(())
            };
            result = result.and(done);
        }
        result
    }
}

/// Replaces a file with its compressed form. A form that a crash has left half written is
/// overwritten.
fn compress(path: &Path) -> io::Result<()> {
    let mut plain = File::open(path)?;
    let mut name = path.as_os_str().to_owned();
    name.push(COMPRESSED);
    let mode = plain.metadata()?.mode();
    let to = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(name)?;
    let mut compressed = GzEncoder::new(to, Compression::default());
    io::copy(&mut plain, &mut compressed)?;
    compressed.finish()?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn rules() -> Rotation {
        let off = false;
        Rotation { bytes_max: 10, days_max: 0, backups_max: None, local_time: off, compress: off }
    }

    #[test]
    fn the_configuration_is_read_as_go_reads_it() {
        let all =
            r#"{"maxsize":2,"MaxAge":3,"maxbackups":4,"localtime":true,"compress":true,"x":1}"#;
        let wanted = Rotation {
            bytes_max: 2 * MEGABYTE,
            days_max: 3,
            backups_max: Some(4),
            local_time: true,
            compress: true,
        };
        assert_eq!(Rotation::parse(all).unwrap(), wanted);
        let default = Rotation::parse(r#"{"maxsize":0,"maxage":null}"#).unwrap();
        assert_eq!(default, Rotation { bytes_max: 100 * MEGABYTE, ..rules() });
        for (text, error) in [
            ("", "improperly formatted log rotation config: unexpected end of JSON input"),
            ("{", "improperly formatted log rotation config: unexpected end of JSON input"),
            (
                r#"{"maxsize":"1"}"#,
                "invalid log rotation config: json: cannot unmarshal string into Go struct field \
                 logRotationConfig.Logger.maxsize of type int",
            ),
            (
                r#"{"maxsize":1.5}"#,
                "invalid log rotation config: json: cannot unmarshal number 1.5 into Go struct \
                 field logRotationConfig.Logger.maxsize of type int",
            ),
            (
                r#"{"compress":1}"#,
                "invalid log rotation config: json: cannot unmarshal number into Go struct field \
                 logRotationConfig.Logger.compress of type bool",
            ),
            (
                "[1]",
                "invalid log rotation config: json: cannot unmarshal array into Go value of type \
                 embed.logRotationConfig",
            ),
            (r#"{"maxage":-1}"#, "invalid log rotation config: maxage is -1, not 0 to 4294967295"),
        ] {
            assert_eq!(Rotation::parse(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn a_full_file_is_renamed_and_keeps_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/etcd.log");
        let mut log = RotatingFile::open(&path, rules()).unwrap();
        log.write(b"12345\n").unwrap();
        log.write(b"789\n").unwrap();
        drop(log);
        // A restart appends; the size counts from the beginning.
        let mut log = RotatingFile::open(&path, rules()).unwrap();
        assert!(log.backups.list().unwrap().is_empty(), "10 bytes fit");
        log.write(b"a line longer than the limit\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a line longer than the limit\n");
        let renamed = log.backups.list().unwrap();
        assert_eq!(renamed.len(), 1);
        assert_eq!(fs::read_to_string(&renamed[0].path).unwrap(), "12345\n789\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, FILE_MODE);
    }

    #[test]
    fn files_that_are_renamed_within_a_millisecond_have_names_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let backups = Backups { path: folder.path().join("etcd.log"), rules: rules() };
        let now: Timestamp = "2026-03-01T00:00:00.009Z".parse().unwrap();
        fs::write(folder.path().join("etcd-2026-03-01T00-00-00.010.log.gz"), "").unwrap();
        for at in ["0", "1", "2"] {
            fs::write(&backups.path, at).unwrap();
            backups.rotate(&File::open(&backups.path).unwrap(), now).unwrap();
        }
        let read = |at: &str| {
            fs::read_to_string(folder.path().join(format!("etcd-2026-03-01T00-00-00.{at}.log")))
                .ok()
        };
        let want = [Some("0"), None, Some("1"), Some("2")];
        assert_eq!(["009", "010", "011", "012"].map(read).each_ref().map(|it| it.as_deref()), want);
    }

    #[test]
    fn a_file_that_cannot_be_renamed_is_written_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etcd.log");
        let mut log = RotatingFile::open(&path, rules()).unwrap();
        log.write(b"123456\n").unwrap();
        fs::remove_file(&path).unwrap();
        assert!(log.write(b"lost?\n").is_err(), "there is nothing to rename");
        log.write(b"not lost\n").unwrap();
    }

    #[test]
    fn names_have_the_form_of_lumberjack() {
        let time: Timestamp = "2016-11-04T18:30:00.0129Z".parse().unwrap();
        for (path, wanted) in [
            ("/l/etcd.log", "/l/etcd-2016-11-04T18-30-00.012.log"),
            ("etcd", "etcd-2016-11-04T18-30-00.012"),
            ("a.b.c", "a.b-2016-11-04T18-30-00.012.c"),
        ] {
            let backups = Backups { path: path.into(), rules: rules() };
            let renamed = backups.renamed(time);
            assert_eq!(renamed, Path::new(wanted));
            let name = renamed.file_name().unwrap().to_str().unwrap();
            let found = backups.time(name).unwrap();
            assert_eq!(found.as_millisecond(), time.as_millisecond());
            assert_eq!(backups.time(&format!("{name}.gz")), Some(found));
        }
        let backups = Backups { path: "etcd.log".into(), rules: rules() };
        for other in ["etcd.log", "etcd-x.log", "etcd-2016-11-04T18-30-00.log", "etcd-.log"] {
            assert_eq!(backups.time(other), None, "{other}");
        }
    }

    #[test]
    fn renamed_files_are_compressed_and_the_oldest_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let rules = Rotation { days_max: 30, backups_max: Some(2), compress: true, ..rules() };
        let backups = Backups { path: folder.path().join("etcd.log"), rules };
        let now: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        for name in [
            "etcd-2026-02-03T00-00-00.000.log",
            "etcd-2026-02-02T00-00-00.000.log",
            "etcd-2026-02-01T00-00-00.000.log",
            "etcd.log",
            "etcd-other.log",
        ] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let names = || {
            let entries = fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<String> =
                entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        backups.clean(now).unwrap();
        let two = [
            "etcd-2026-02-02T00-00-00.000.log.gz",
            "etcd-2026-02-03T00-00-00.000.log.gz",
            "etcd-other.log",
            "etcd.log",
        ];
        assert_eq!(names(), two);
        let mut text = String::new();
        let compressed = File::open(folder.path().join(two[0])).unwrap();
        flate2::read::GzDecoder::new(compressed).read_to_string(&mut text).unwrap();
        assert_eq!(text, "etcd-2026-02-02T00-00-00.000.log");
        backups.clean(now + SignedDuration::from_hours(24 * 3 + 1)).unwrap();
        assert_eq!(names(), two[1..], "the other one is older than 30 days");
    }
}

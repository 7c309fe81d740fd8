//! Log lines as zap writes them in etcd: JSON with `level`, `ts`, `logger`, `caller`, `msg` and
//! the event's fields, or the same for a console.
//!
//! Three fields of an event are special: `level` replaces the level (`fatal`, `panic`), `logger`
//! names the logger, and the fields of `fields`, a JSON object, become fields of the line, because
//! an event of `tracing` has at most 32. A debug value that is a JSON array of texts stays an
//! array. Times are UTC.
//!
//! Source: etcd client/pkg/logutil/zap.go, server/embed/config_logging.go @ v3.7.1.

mod journal;

use crate::config::Logging;
use crate::log_rotation::{NO_SINGLE_FILE, RotatingFile, Rotation};
use crate::settings::Notice;
use cli::json::Object;
use cli::log::{self, Line};
use journal::Journal;
use serde_json::Value as Json;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// The digits of a time in the log.
const MICROSECONDS: usize = 6;

/// Libraries whose events are logged only from the level of warnings up.
const QUIET: [&str; 6] = ["h2", "hyper", "hyper_util", "mio", "tonic", "tower"];

/// The content of a line.
#[derive(Debug)]
struct Record {
    level: log::Level,
    /// The name of the logger, or empty.
    logger: String,
    caller: String,
    message: String,
    fields: Vec<(String, Json)>,
}

/// The format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Console,
}

/// A destination of lines.
#[derive(Debug)]
enum Output {
    Stderr,
    Stdout,
    File(File),
    Rotating(Box<RotatingFile>),
    Journal(Journal),
}

impl Output {
    fn open(name: &str, rotation: Option<&Rotation>) -> Result<Self, String> {
        let failed = |e: io::Error| format!("open sink {name:?}: open {name}: {}", plain(&e));
        Ok(match (name, rotation) {
            ("default" | "stderr", _) => Self::Stderr,
            ("stdout", _) => Self::Stdout,
            (JOURNAL, _) => {
                let socket = Path::new(journal::SOCKET);
                Self::Journal(Journal::connect(socket).map_err(|error| {
                    let why = plain(&error);
                    format!(
                        "can't find journal (dial unixgram {}: connect: {why})",
                        socket.display()
                    )
                })?)
            }
            (path, Some(rules)) => {
                let file = RotatingFile::open(Path::new(path), rules.clone());
                Self::Rotating(Box::new(file.map_err(failed)?))
            }
            (path, None) => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                Self::File(file.map_err(failed)?)
            }
        })
    }

    fn write(&mut self, record: &Record, line: &str) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().lock().write_all(line.as_bytes()),
            Self::Stdout => io::stdout().lock().write_all(line.as_bytes()),
            Self::File(file) => file.write_all(line.as_bytes()),
            Self::Rotating(file) => file.write(line.as_bytes()),
            Self::Journal(journal) => journal
                .write(record.level, &record.caller, line)
                .or_else(|_| io::stderr().lock().write_all(line.as_bytes())),
        }
    }
}

/// The output that is the journal of systemd.
const JOURNAL: &str = "systemd/journal";

/// Checks which outputs there are together, and reads the rules of rotation.
///
/// # Errors
/// etcd's message.
pub(crate) fn check_outputs(
    outputs: &[String],
    rotation: Option<&str>,
) -> Result<Option<Rotation>, String> {
    let has = |name: &str| outputs.iter().any(|output| output == name);
    if outputs.len() > 1 && has("default") {
        return Err("multi logoutput for \"default\" is not supported yet".to_owned());
    }
    let files = outputs.iter().filter(|o| !["default", "stderr", "stdout"].contains(&o.as_str()));
    let files = files.count();
    let rotation = match rotation {
        Some(_) if files > 1 || files == 0 && outputs.len() == 1 => {
            return Err(NO_SINGLE_FILE.to_owned());
        }
        Some(rules) => Some(Rotation::parse(rules)?),
        None => None,
    };
    if outputs.len() > 1 && has(JOURNAL) {
        let shown: Vec<String> = outputs.iter().map(|output| format!("{output:?}")).collect();
        return Err(format!(
            "running with systemd/journal but other '--log-outputs' values ([{}]) are configured \
             with 'default'; override 'default' value with something else",
            shown.join(" ")
        ));
    }
    Ok(rotation)
}

/// A log: its format, its lowest level and its outputs.
#[derive(Debug)]
pub struct LogOutput {
    format: Format,
    lowest: Level,
    /// Drops lines below `panic`, for the levels `panic` and `fatal`, which `tracing` does not
    /// have.
    fatal_only: bool,
    outputs: Mutex<Vec<Output>>,
}

impl LogOutput {
    /// The log that is used until the settings are known: JSON on standard error.
    pub fn early() -> Self {
        Self::early_from(Level::INFO)
    }

    /// As [`LogOutput::early`], with the lines of this level and of higher ones.
    pub fn early_from(lowest: Level) -> Self {
        Self {
            format: Format::Json,
            lowest,
            fatal_only: false,
            outputs: Mutex::new(vec![Output::Stderr]),
        }
    }

    /// Opens the outputs of the settings.
    ///
    /// # Errors
    /// When a file cannot be opened, or there is no journal; with etcd's message.
    pub fn open(logging: &Logging) -> Result<Self, String> {
        let mut outputs = Vec::new();
        for output in &logging.outputs {
            outputs.push(Output::open(output, logging.rotation.as_ref())?);
        }
        // As in etcd, /dev/null disables the other outputs too.
        if logging.outputs.iter().any(|path| path == "/dev/null") {
            outputs.clear();
        }
        Ok(Self {
            format: if logging.format == "console" { Format::Console } else { Format::Json },
            lowest: match logging.level.as_str() {
                "debug" => Level::DEBUG,
                "info" => Level::INFO,
                "warn" => Level::WARN,
                _ => Level::ERROR,
            },
            fatal_only: ["dpanic", "panic", "fatal"].contains(&logging.level.as_str()),
            outputs: Mutex::new(outputs),
        })
    }

    /// Installs this log for the process. Only the first call has an effect.
    pub fn install(self) {
        let subscriber = tracing_subscriber::registry().with(self);
        if tracing::subscriber::set_global_default(subscriber).is_err() {
            // Only tests install a second log in one process.
        }
    }

    /// Writes a notice that was recorded before the log was opened.
    pub fn notice(&self, notice: &Notice) {
        self.write(&Record {
            level: log::Level::named(notice.level).expect("our own notices have zap's levels"),
            logger: String::new(),
            caller: caller(file!(), line!()),
            message: notice.message.clone(),
            fields: notice
                .fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Json::String(value.clone())))
                .collect(),
        });
    }

    fn write(&self, record: &Record) {
        let line = record.line(self.format, SystemTime::now());
        let mut outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        for output in outputs.iter_mut() {
            if output.write(record, &line).is_err() {
                // There is no place to report that the log cannot be written.
            }
        }
    }
}

/// The message of a file's error in Go's words: lower case, without the number.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or("").to_owned();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

impl<S: Subscriber> Layer<S> for LogOutput {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let root = metadata.target().split("::").next().unwrap_or("");
        let lowest = if QUIET.contains(&root) { Level::WARN } else { self.lowest };
        *metadata.level() <= lowest.min(self.lowest)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut record = Record {
            level: level(*metadata.level()),
            // Consensus has a logger of its own, as in etcd.
            logger: if metadata.target().starts_with("raft") {
                "raft".to_owned()
            } else {
                String::new()
            },
            caller: caller(metadata.file().unwrap_or(""), metadata.line().unwrap_or(0)),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut record);
        if self.fatal_only && ![log::Level::Panic, log::Level::Fatal].contains(&record.level) {
            return;
        }
        self.write(&record);
    }
}

fn level(level: Level) -> log::Level {
    if level == Level::ERROR {
        log::Level::Error
    } else if level == Level::WARN {
        log::Level::Warn
    } else if level == Level::INFO {
        log::Level::Info
    } else {
        log::Level::Debug
    }
}

/// The file and its folder, without `src`: `net/listen.rs:12`.
fn caller(file: &str, line: u32) -> String {
    let mut parts = file.rsplit('/').filter(|part| *part != "src");
    let name = parts.next().unwrap_or("");
    match parts.next() {
        Some(folder) => format!("{folder}/{name}:{line}"),
        None => format!("{name}:{line}"),
    }
}

impl Record {
    /// The line that is written, with its line feed.
    fn line(&self, format: Format, now: SystemTime) -> String {
        let mut fields = Object::zap();
        for (name, value) in &self.fields {
            let value = match format {
                Format::Json => value.to_string(),
                Format::Console => spaced(value),
            };
            fields = fields.raw(name, &value);
        }
        let line = Line {
            level: self.level,
            logger: &self.logger,
            caller: &self.caller,
            message: &self.message,
            fields,
        };
        let text = match format {
            Format::Json => line.json(now),
            Format::Console => line.console(now, MICROSECONDS),
        };
        text + "\n"
    }

    fn set(&mut self, field: &Field, value: Json) {
        if field.name() == "fields"
            && let Some(Ok(Json::Object(many))) = value.as_str().map(serde_json::from_str)
        {
            self.fields.extend(many);
            return;
        }
        match (field.name(), value) {
            ("message", Json::String(text)) => self.message = text,
            ("level", Json::String(text)) => {
                self.level = log::Level::named(&text).unwrap_or(self.level);
            }
            ("logger", Json::String(text)) => self.logger = text,
            (name, value) => self.fields.push((name.to_owned(), value)),
        }
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        let list = text.starts_with('[').then(|| serde_json::from_str::<Vec<String>>(&text));
        match list {
            Some(Ok(list)) => self.set(field, Json::from(list)),
            _ => self.set(field, Json::String(text)),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, Json::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, Json::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, Json::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, Json::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, Json::from(value));
    }
}

/// JSON with a space after each comma.
fn spaced(value: &Json) -> String {
    match value.as_array() {
        Some(items) => {
            format!("[{}]", items.iter().map(Json::to_string).collect::<Vec<_>>().join(", "))
        }
        None => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the log file contains after the event.
    fn logged(format: &str, event: impl FnOnce()) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = LogOutput::open(&Logging {
            outputs: vec![path.display().to_string()],
            level: "info".to_owned(),
            format: format.to_owned(),
            audit: None,
            rotation: None,
        })
        .unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(log), event);
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn an_event_becomes_a_line_with_zaps_names() {
        let line = logged("json", || {
            let urls = ["http://a:1", "http://b:2"];
            tracing::info!("listen-urls" = ?urls, took = 5, "a \"quoted\" message");
            tracing::debug!("not at this level");
        });
        assert_eq!(line.lines().count(), 1);
        let json: Json = serde_json::from_str(&line).unwrap();
        let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["level", "ts", "caller", "msg", "listen-urls", "took"]);
        assert!(json["caller"].as_str().unwrap().starts_with("embed/logging.rs:"));
        assert_eq!(json["msg"], "a \"quoted\" message");
        assert_eq!(json["listen-urls"], serde_json::json!(["http://a:1", "http://b:2"]));
        assert_eq!(json["took"], 5);
    }

    #[test]
    fn level_and_logger_can_be_given() {
        let line = logged("json", || {
            tracing::error!(level = "fatal", logger = "raft", error = %"why", "stopping");
        });
        let json: Json = serde_json::from_str(&line).unwrap();
        let shown = [&json["level"], &json["logger"], &json["error"]];
        assert_eq!(shown, ["fatal", "raft", "why"]);
    }

    #[test]
    fn a_console_line_has_tabs() {
        let line = logged("console", || tracing::warn!(a = 1, b = "x", "message"));
        let parts: Vec<&str> = line.trim_end().split('\t').collect();
        assert_eq!(parts[1], "warn");
        assert_eq!(&parts[3..], ["message", "{\"a\": 1, \"b\": \"x\"}"]);
    }
}

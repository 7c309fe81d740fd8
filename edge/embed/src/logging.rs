//! Log lines as zap writes them in etcd: JSON with `level`, `ts`, `logger`, `caller`, `msg` and
//! the event's fields, or the same for a console.
//!
//! Three fields of an event are special: `level` replaces the level (`fatal`, `panic`), `logger`
//! names the logger, `fields` is a JSON object whose fields become the line's: an event of
//! `tracing` has at most 32. A debug value that is a JSON array of texts stays an array. Times are UTC.
//!
//! Source: etcd client/pkg/logutil/zap.go @ v3.7.1.

use crate::config::Logging;
use crate::settings::Notice;
use serde_json::Value as Json;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// Libraries of which only warnings and errors are logged.
const QUIET: [&str; 6] = ["h2", "hyper", "hyper_util", "mio", "tonic", "tower"];

/// One line before it is written.
#[derive(Debug, Default)]
struct Record {
    level: String,
    logger: Option<String>,
    caller: String,
    message: String,
    fields: Vec<(String, Json)>,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Console,
}

/// Where lines go.
#[derive(Debug)]
enum Output {
    Stderr,
    Stdout,
    File(File),
}

impl Output {
    fn write(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().lock().write_all(line.as_bytes()),
            Self::Stdout => io::stdout().lock().write_all(line.as_bytes()),
            Self::File(file) => file.write_all(line.as_bytes()),
        }
    }
}

/// A log: its format, its lowest level and its outputs.
#[derive(Debug)]
pub struct LogOutput {
    format: Format,
    lowest: Level,
    /// Only `error` lines and above: for the levels that `tracing` does not have.
    fatal_only: bool,
    outputs: Mutex<Vec<Output>>,
}

impl LogOutput {
    /// The log until the settings are known: JSON on standard error.
    pub fn early() -> Self {
        Self {
            format: Format::Json,
            lowest: Level::INFO,
            fatal_only: false,
            outputs: Mutex::new(vec![Output::Stderr]),
        }
    }

    /// Opens what the settings name.
    ///
    /// # Errors
    /// A file that cannot be opened, in Go's words.
    pub fn open(logging: &Logging) -> Result<Self, String> {
        let mut outputs = Vec::new();
        for output in &logging.outputs {
            outputs.push(match output.as_str() {
                "default" | "stderr" => Output::Stderr,
                "stdout" => Output::Stdout,
                path => {
                    let file = OpenOptions::new().append(true).create(true).open(path);
                    Output::File(
                        file.map_err(|e| {
                            format!("open sink {path:?}: open {path}: {}", plain(&e))
                        })?,
                    )
                }
            });
        }
        // As with zap, /dev/null silences the others too.
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
            // A second log in one process is one of a test.
        }
    }

    /// Writes a notice that was collected before the log was open.
    pub fn notice(&self, notice: &Notice) {
        self.write(&Record {
            level: notice.level.to_owned(),
            logger: None,
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
        let line = match self.format {
            Format::Json => json(record),
            Format::Console => console(record),
        };
        let mut outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        for output in outputs.iter_mut() {
            if output.write(&line).is_err() {
                // A log that cannot be written cannot report its error anywhere.
            }
        }
    }
}

/// What Go's runtime says of the usual errors of files.
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
            level: level(*metadata.level()).to_owned(),
            caller: caller(metadata.file().unwrap_or(""), metadata.line().unwrap_or(0)),
            ..Record::default()
        };
        // Consensus has a logger of its own name, as in etcd.
        record.logger = metadata.target().starts_with("raft").then(|| "raft".to_owned());
        event.record(&mut record);
        if self.fatal_only && !["panic", "fatal"].contains(&record.level.as_str()) {
            return;
        }
        self.write(&record);
    }
}

fn level(level: Level) -> &'static str {
    if level == Level::ERROR {
        "error"
    } else if level == Level::WARN {
        "warn"
    } else if level == Level::INFO {
        "info"
    } else {
        "debug"
    }
}

/// The last folder that says something, and the file: `net/listen.rs:12`.
fn caller(file: &str, line: u32) -> String {
    let mut parts = file.rsplit('/').filter(|part| *part != "src");
    let name = parts.next().unwrap_or("");
    match parts.next() {
        Some(folder) => format!("{folder}/{name}:{line}"),
        None => format!("{name}:{line}"),
    }
}

impl Record {
    fn set(&mut self, field: &Field, value: Json) {
        if field.name() == "fields"
            && let Some(Ok(Json::Object(many))) = value.as_str().map(serde_json::from_str)
        {
            self.fields.extend(many);
            return;
        }
        match (field.name(), value) {
            ("message", Json::String(text)) => self.message = text,
            ("level", Json::String(text)) => self.level = text,
            ("logger", Json::String(text)) => self.logger = Some(text),
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

fn json(record: &Record) -> String {
    let mut line = format!(
        "{{\"level\":{},\"ts\":\"{}\"",
        quoted(&record.level),
        timestamp(SystemTime::now())
    );
    if let Some(logger) = &record.logger {
        line.push_str(&format!(",\"logger\":{}", quoted(logger)));
    }
    line.push_str(&format!(
        ",\"caller\":{},\"msg\":{}",
        quoted(&record.caller),
        quoted(&record.message)
    ));
    for (name, value) in &record.fields {
        line.push_str(&format!(",{}:{value}", quoted(name)));
    }
    line.push_str("}\n");
    line
}

fn console(record: &Record) -> String {
    let mut line = format!("{}\t{}", timestamp(SystemTime::now()), record.level);
    if let Some(logger) = &record.logger {
        line.push_str(&format!("\t{logger}"));
    }
    line.push_str(&format!("\t{}\t{}", record.caller, record.message));
    if !record.fields.is_empty() {
        let fields: Vec<String> = record
            .fields
            .iter()
            .map(|(name, value)| format!("{}: {}", quoted(name), spaced(value)))
            .collect();
        line.push_str(&format!("\t{{{}}}", fields.join(", ")));
    }
    line.push('\n');
    line
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

fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}

/// `2006-01-02T15:04:05.000000Z`.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_micros()
    )
}

/// The Gregorian date of a number of days since 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years begin in March here, so that the leap day is a year's last.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_written_as_zap_does() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_795_253_814, "2026-11-21T09:36:54.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
        let time = UNIX_EPOCH + Duration::from_micros(7);
        assert_eq!(timestamp(time), "1970-01-01T00:00:00.000007Z");
    }

    /// Everything after the time, which differs.
    fn logged(format: &str, event: impl FnOnce()) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = LogOutput::open(&Logging {
            outputs: vec![path.display().to_string()],
            level: "info".to_owned(),
            format: format.to_owned(),
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

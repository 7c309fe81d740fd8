//! Log lines as zap writes them: JSON, or columns for a console.

use crate::json::Object;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The level of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Details for debugging.
    Debug,
    /// Something was done.
    Info,
    /// Something may be wrong.
    Warn,
    /// Something is wrong.
    Error,
    /// The program panics because of it.
    Panic,
    /// The program ends because of it.
    Fatal,
}

impl Level {
    /// The name in a line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Panic => "panic",
            Level::Fatal => "fatal",
        }
    }

    /// The level of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Level> {
        use Level::{Debug, Error, Fatal, Info, Panic, Warn};
        [Debug, Info, Warn, Error, Panic, Fatal].into_iter().find(|level| level.name() == name)
    }
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// The level.
    pub level: Level,
    /// The name of the logger, or empty.
    pub logger: &'a str,
    /// The place in our source: file and line.
    pub caller: &'a str,
    /// The message.
    pub message: &'a str,
    /// Further fields, made with [`Object::zap`].
    pub fields: Object,
}

impl Line<'_> {
    /// The line as JSON, without a line feed.
    #[must_use]
    pub fn json(&self, now: SystemTime) -> String {
        let head = Object::zap()
            .string("level", self.level.name())
            .string("ts", &timestamp(now, 6))
            .nonempty("logger", self.logger)
            .string("caller", self.caller)
            .string("msg", self.message);
        head.and(&self.fields).done()
    }

    /// The line in columns with tabs, without a line feed. The time has `digits` digits of the
    /// second's fraction.
    #[must_use]
    pub fn console(&self, now: SystemTime, digits: usize) -> String {
        let mut line = format!("{}\t{}", timestamp(now, digits), self.level.name());
        for column in [self.logger, self.caller].into_iter().filter(|column| !column.is_empty()) {
            line.push_str(&format!("\t{column}"));
        }
        line.push_str(&format!("\t{}", self.message));
        if !self.fields.is_empty() {
            line.push_str(&format!("\t{}", self.fields.spaced()));
        }
        line
    }
}

/// A time in RFC 3339, UTC, with `digits` digits of the second's fraction.
#[must_use]
pub fn timestamp(now: SystemTime, digits: usize) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if digits > 0 {
        text.push('.');
        text.push_str(&format!("{:09}", since.subsec_nanos())[..digits.min(9)]);
    }
    text.push('Z');
    text
}

/// Year, month and day of a number of days since 1970-01-01.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let of_era = z % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        let at = |seconds| UNIX_EPOCH + Duration::new(seconds, 24_649_583);
        assert_eq!(timestamp(at(1_795_260_684), 6), "2026-11-21T11:31:24.024649Z");
        assert_eq!(timestamp(at(951_782_399), 0), "2000-02-28T23:59:59Z");
        assert_eq!(timestamp(at(951_782_400), 0), "2000-02-29T00:00:00Z");
        assert_eq!(timestamp(at(4_107_542_400), 0), "2100-03-01T00:00:00Z");
        assert_eq!(timestamp(UNIX_EPOCH, 3), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_line_has_zaps_fields_in_zaps_order() {
        let line = Line {
            level: Level::Warn,
            logger: "etcd-client",
            caller: "client/call.rs:1",
            message: "retrying",
            fields: Object::zap().plain("attempt", 0).string("error", "<x>"),
        };
        assert_eq!(
            line.json(UNIX_EPOCH),
            "{\"level\":\"warn\",\"ts\":\"1970-01-01T00:00:00.000000Z\",\"logger\":\"etcd-client\",\
             \"caller\":\"client/call.rs:1\",\"msg\":\"retrying\",\"attempt\":0,\
             \"error\":\"<x>\"}"
        );
        assert_eq!(
            line.console(UNIX_EPOCH, 0),
            "1970-01-01T00:00:00Z\twarn\tetcd-client\tclient/call.rs:1\tretrying\t\
             {\"attempt\": 0, \"error\": \"<x>\"}"
        );
    }
}

//! Durations in Go's notation: `1h30m`, `100ms`, `2h0m0s`.
//!
//! Source: the documentation of Go's `time.ParseDuration` and `Duration.String`.

use crate::go::quote;
use std::fmt;
use std::time::Duration;

/// A duration in nanoseconds, which may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub i64);

const MICRO: i64 = 1_000;
const MILLI: i64 = 1_000_000;
const SECOND: i64 = 1_000_000_000;
const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", MICRO),
    ("\u{b5}s", MICRO),
    ("\u{3bc}s", MICRO),
    ("ms", MILLI),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3600 * SECOND),
];

impl GoDuration {
    /// A number of milliseconds.
    #[must_use]
    pub fn from_millis(ms: i64) -> Self {
        Self(ms.saturating_mul(MILLI))
    }

    /// The duration in Rust's type; a negative one becomes zero.
    #[must_use]
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }

    /// Reads a duration. Digits after the nanosecond are dropped.
    ///
    /// # Errors
    /// Go's message, without its `time: ` prefix.
    pub fn parse(text: &str) -> Result<Self, String> {
        let quoted = quote(text.as_bytes());
        let invalid = || format!("invalid duration {quoted}");
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
            let (number, tail) = rest.split_at(number_end.unwrap_or(rest.len()));
            let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.');
            let (unit, tail) = tail.split_at(unit_end.unwrap_or(tail.len()));
            if !number.bytes().any(|b| b.is_ascii_digit()) || number.matches('.').count() > 1 {
                return Err(invalid());
            }
            if unit.is_empty() {
                return Err(format!("missing unit in duration {quoted}"));
            }
            let Some((_, size)) = UNITS.iter().find(|(name, _)| *name == unit) else {
                let unit = quote(unit.as_bytes());
                return Err(format!("unknown unit {unit} in duration {quoted}"));
            };
            let part = scaled(number, *size).ok_or_else(invalid)?;
            total = total.checked_add(part).ok_or_else(invalid)?;
            rest = tail;
        }
        let total = if negative { -total } else { total };
        i64::try_from(total).map(Self).map_err(|_| invalid())
    }
}

/// The decimal number times `size`, rounded down.
fn scaled(number: &str, size: i64) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(i128::from(size))?;
    let mut place = i128::from(size);
    for digit in fraction.bytes() {
        place /= 10;
        total += i128::from(digit - b'0') * place;
    }
    Some(total)
}

impl From<Duration> for GoDuration {
    /// At most Go's longest duration, 292 years.
    fn from(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let n = self.0.unsigned_abs();
        let second = SECOND.unsigned_abs();
        if n == 0 {
            return f.write_str("0s");
        }
        if n < second {
            let (size, unit) = match n {
                0..1_000 => (1, "ns"),
                1_000..1_000_000 => (1_000, "\u{b5}s"),
                _ => (1_000_000, "ms"),
            };
            return write!(f, "{}{unit}", decimal(n, size));
        }
        let (hours, rest) = (n / (3600 * second), n % (3600 * second));
        let (minutes, rest) = (rest / (60 * second), rest % (60 * second));
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        write!(f, "{}s", decimal(rest, second))
    }
}

/// `n / size` as a decimal number without trailing zeros.
fn decimal(n: u64, size: u64) -> String {
    let mut text = (n / size).to_string();
    let (mut rest, mut place) = (n % size, size / 10);
    if rest > 0 {
        text.push('.');
    }
    while rest > 0 {
        text.push(char::from(b'0' + u8::try_from(rest / place).unwrap_or(0)));
        rest %= place;
        place /= 10;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print_as_in_go() {
        for (text, ns, printed) in [
            ("5s", 5 * SECOND, "5s"),
            ("2h", 7200 * SECOND, "2h0m0s"),
            ("100ms", 100 * MILLI, "100ms"),
            ("1h30m", 5400 * SECOND, "1h30m0s"),
            ("1.5s", 1_500 * MILLI, "1.5s"),
            (".5s", 500 * MILLI, "500ms"),
            ("1us", MICRO, "1\u{b5}s"),
            ("-1m", -60 * SECOND, "-1m0s"),
            ("0", 0, "0s"),
            ("+1.25ms", 1_250 * MICRO, "1.25ms"),
            ("999ns", 999, "999ns"),
            ("3.358398ms", 3_358_398, "3.358398ms"),
            ("1m30.5s", 90_500 * MILLI, "1m30.5s"),
        ] {
            let read = GoDuration::parse(text).unwrap();
            assert_eq!((read.0, read.to_string().as_str()), (ns, printed), "{text}");
        }
    }

    #[test]
    fn refusals_have_gos_words() {
        for (text, error) in [
            ("", "invalid duration \"\""),
            ("5", "missing unit in duration \"5\""),
            ("-1", "missing unit in duration \"-1\""),
            ("x", "invalid duration \"x\""),
            ("5d", "unknown unit \"d\" in duration \"5d\""),
            ("1..5s", "invalid duration \"1..5s\""),
            (".s", "invalid duration \".s\""),
            ("9999999h", "invalid duration \"9999999h\""),
        ] {
            assert_eq!(GoDuration::parse(text).unwrap_err(), error);
        }
    }
}

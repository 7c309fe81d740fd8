//! Regularly asks another member for its time, to measure the round trip and the clock difference.
//!
//! Source: etcd v3.7 rafthttp/probing_status.go.

use crate::http1::{exchange, head};
use crate::limits::{CLOCK_DRIFT_MAX, PROBE, PROBE_TIME_MAX, TEXT_BYTES_MAX};
use crate::link::Link;
use crate::shared::Shared;
use bytes::Bytes;
use http_body_util::Full;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::time::sleep;

pub(crate) async fn run(link: Arc<Link>, shared: Arc<Shared>) {
    loop {
        sleep(PROBE).await;
        let started = Instant::now();
        match probe(&link, &shared).await {
            Ok(time) => {
                let took = started.elapsed();
                let times = &shared.counters.metrics.raft.peers.round_trip_seconds;
                times.with_label_values(&[&link.name]).observe(took.as_secs_f64());
                warn_of_drift(&link, time, took);
            }
            Err(error) => {
                tracing::debug!(
                    "remote-peer-id" = link.name,
                    error,
                    "prober detected unhealthy status"
                );
            }
        }
    }
}

/// The member's time since 1970.
async fn probe(link: &Link, shared: &Shared) -> Result<Duration, String> {
    let url = link.urls.pick().ok_or("the peer has no usable URL")?;
    let request = head("GET", &url, "/raft/probing").header("Connection", "close");
    let to = (&shared.options.dialer, &url);
    let request = request.body(Full::new(Bytes::new())).map_err(|error| error.to_string())?;
    let answer = exchange(to, request, TEXT_BYTES_MAX, PROBE_TIME_MAX).await?;
    if answer.status() != http::StatusCode::OK {
        return Err(format!("unexpected http status {}", answer.status()));
    }
    let text = std::str::from_utf8(answer.body()).map_err(|error| error.to_string())?;
    let time = text.split("\"Now\":\"").nth(1).and_then(|rest| rest.split('"').next());
    time.and_then(parse_time).ok_or_else(|| format!("not the answer of a prober: {text}"))
}

fn warn_of_drift(link: &Link, theirs: Duration, took: Duration) {
    let Ok(ours) = SystemTime::now().duration_since(UNIX_EPOCH) else { return };
    let drift = ours.saturating_sub(took / 2).abs_diff(theirs);
    if drift > CLOCK_DRIFT_MAX {
        let (drift, rtt) = (format!("{drift:?}"), format!("{took:?}"));
        tracing::warn!(
            "remote-peer-id" = link.name,
            "clock-drift" = drift,
            rtt,
            "prober found high clock drift"
        );
    }
}

/// The days since 1970 of a date of the Gregorian calendar, and back (the algorithms of H. Hinnant,
/// "chrono-compatible low-level date algorithms").
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// `2026-11-25T20:50:46.000000001Z`, as Go writes a time.
pub(crate) fn format_time(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (year, month, day) = date_of(i64::try_from(seconds / 86_400).unwrap_or(i64::MAX / 400));
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let fraction = format!("{:09}", since_1970.subsec_nanos());
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{dot}{fraction}Z")
}

/// A time as Go writes it, in any time zone. `None` for other texts.
fn parse_time(text: &str) -> Option<Duration> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (date, month) = (days_of(number(0, 4)?, number(5, 7)?, number(8, 10)?), number(5, 7)?);
    if !(1..=12).contains(&month) {
        return None;
    }
    let seconds = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let rest = text.get(19..)?;
    let zone_at = rest.find(['Z', '+', '-'])?;
    let fraction = rest.get(..zone_at)?.trim_start_matches('.');
    let nanos: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let zone = rest.get(zone_at..)?;
    let offset = match zone.as_bytes().first()? {
        b'Z' => 0,
        sign => {
            let part = |from: usize, to: usize| zone.get(from..to)?.parse::<i64>().ok();
            let offset = part(1, 3)? * 3600 + part(4, 6)? * 60;
            if *sign == b'-' { -offset } else { offset }
        }
    };
    let seconds = u64::try_from(date * 86_400 + seconds - offset).ok()?;
    Some(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_as_go_does() {
        for (seconds, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_400, 500_000_000, "2000-02-29T00:00:00.5Z"),
            (1_764_103_846, 1, "2025-11-25T20:50:46.000000001Z"),
        ] {
            let time = Duration::new(seconds, nanos);
            assert_eq!(format_time(time), text);
            assert_eq!(parse_time(text), Some(time));
        }
        let zoned = parse_time("2025-11-25T22:50:46.000000001+02:00");
        assert_eq!(zoned, Some(Duration::new(1_764_103_846, 1)));
        for text in ["", "x", "2025-13-25T20:50:46Z", "2025-11-25T20:50:46"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}

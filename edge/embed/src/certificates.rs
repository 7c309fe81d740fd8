//! The time until the certificates of the ports expire: a metric, and a warning in the log.

use net::tls::ServerTls;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A certificate that expires sooner is warned of.
const WARN_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The time between two warnings.
const WARN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// The certificates of the ports with TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct Certificates(Vec<(&'static str, Arc<ServerTls>)>);

impl Certificates {
    /// Those of these ports.
    pub(crate) fn new(ports: Vec<(&'static str, Arc<ServerTls>)>) -> Certificates {
        Certificates(ports)
    }

    /// The seconds until the certificate of each port expires; negative after that.
    pub(crate) fn seconds_left(&self, now: SystemTime) -> Vec<(&'static str, i64)> {
        let of = |(port, tls): &(&'static str, Arc<ServerTls>)| {
            (*port, tls.expires_unix_s().saturating_sub(unix_s(now)))
        };
        self.0.iter().map(of).collect()
    }

    /// Warns of certificates that expire soon, at once and once a day.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn watch(self) -> std::io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let warn = move || {
            loop {
                for (port, seconds) in self.seconds_left(SystemTime::now()) {
                    warn(port, seconds);
                }
                std::thread::sleep(WARN_EVERY);
            }
        };
        std::thread::Builder::new().name("certificates".to_owned()).spawn(warn).map(drop)
    }
}

fn unix_s(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// What the log says about a certificate with this time left; `None` if there is nothing to say.
fn message(seconds_left: i64) -> Option<&'static str> {
    if seconds_left < 0 {
        return Some("a TLS certificate has expired");
    }
    let is_soon = seconds_left.unsigned_abs() < WARN_BEFORE.as_secs();
    is_soon.then_some("a TLS certificate expires soon")
}

fn warn(port: &str, seconds_left: i64) {
    if let Some(message) = message(seconds_left) {
        let days = seconds_left.div_euclid(24 * 60 * 60);
        tracing::warn!(port, "days-left" = days, "{message}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_of_for_its_last_thirty_days() {
        let days = |days: i64| days * 24 * 60 * 60;
        assert_eq!(message(days(30)), None);
        assert_eq!(message(days(30) - 1), Some("a TLS certificate expires soon"));
        assert_eq!(message(0), Some("a TLS certificate expires soon"));
        assert_eq!(message(-1), Some("a TLS certificate has expired"));
    }
}

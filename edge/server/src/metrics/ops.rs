//! Durations and counts by the kind of a request. As in etcd, a metric appears with its first use.
//! Later uses cost one atomic load for the look-up.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
    exponential_buckets,
};
use proto::Op;
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The place after those of all [`Op`]s: a transaction that only reads, which is not replicated.
const READONLY_TXN: usize = Op::ALL.len();

/// A histogram by [`Op`] and success.
#[derive(Debug)]
pub struct OpHistogram {
    vector: HistogramVec,
    labels: Labels,
    /// Two for each [`Op`] and for [`READONLY_TXN`]: success, failure.
    rows: [[OnceLock<Histogram>; 2]; READONLY_TXN + 1],
}

/// The labels of an [`OpHistogram`].
#[derive(Clone, Copy, Debug)]
enum Labels {
    /// `success`, `type`.
    Request,
    /// `version`, `op`, `success`.
    Apply,
    /// `success` alone.
    Range,
}

impl OpHistogram {
    pub(super) fn request(registry: &Registry) -> prometheus::Result<Self> {
        Self::register(
            registry,
            ("etcd_server_request_duration_seconds", "Time of a request, by its kind."),
            (0.001, 14),
            (Labels::Request, &["type", "success"]),
        )
    }

    pub(super) fn apply(registry: &Registry) -> prometheus::Result<Self> {
        Self::register(
            registry,
            ("etcd_server_apply_duration_seconds", "Time to apply an entry, by its kind."),
            (0.0001, 20),
            (Labels::Apply, &["version", "op", "success"]),
        )
    }

    pub(super) fn range(registry: &Registry) -> prometheus::Result<Self> {
        Self::register(
            registry,
            ("etcd_server_range_duration_seconds", "Time of a range."),
            (0.0001, 20),
            (Labels::Range, &["success"]),
        )
    }

    fn register(
        registry: &Registry,
        (name, help): (&str, &str),
        (start, buckets): (f64, usize),
        (labels, names): (Labels, &[&str]),
    ) -> prometheus::Result<Self> {
        let buckets = exponential_buckets(start, 2.0, buckets)?;
        let vector = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), names)?;
        registry.register(Box::new(vector.clone()))?;
        Ok(Self { vector, labels, rows: [const { [const { OnceLock::new() }; 2] }; _] })
    }

    /// Records one operation that took `seconds`.
    pub fn observe(&self, op: Op, success: bool, seconds: f64) {
        self.observe_row(op as usize, op.name(), success, seconds);
    }

    /// Records one transaction that only read.
    pub fn observe_readonly_txn(&self, success: bool, seconds: f64) {
        self.observe_row(READONLY_TXN, "ReadonlyTxn", success, seconds);
    }

    fn observe_row(&self, place: usize, name: &str, success: bool, seconds: f64) {
        let row = &self.rows[place][usize::from(!success)];
        row.get_or_init(|| {
            let success = if success { "true" } else { "false" };
            match self.labels {
                Labels::Request => self.vector.with_label_values(&[name, success]),
                Labels::Apply => self.vector.with_label_values(&["v3", name, success]),
                Labels::Range => self.vector.with_label_values(&[success]),
            }
        })
        .observe(seconds);
    }
}

/// The maximum number of different client versions. Further versions count as `unknown`, so that
/// clients cannot fill the registry.
pub(crate) const CLIENT_VERSIONS_MAX: usize = 100;

/// Requests by kind (`unary`, `stream`) and the version in the client's metadata.
#[derive(Debug)]
pub struct ClientRequests {
    vector: IntCounterVec,
    seen: Mutex<BTreeMap<(&'static str, String), IntCounter>>,
}

impl ClientRequests {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let vector = IntCounterVec::new(
            Opts::new("etcd_server_client_requests_total", "Requests, by the client's version."),
            &["type", "client_api_version"],
        )?;
        registry.register(Box::new(vector.clone()))?;
        Ok(Self { vector, seen: Mutex::default() })
    }

    /// The counter for one kind and version. Callers keep it.
    ///
    /// Versions that are not printable ASCII, longer than 64 bytes, or beyond the first hundred
    /// share the row `unknown`.
    pub fn counter(&self, kind: &'static str, version: &[u8]) -> IntCounter {
        let version = match std::str::from_utf8(version) {
            Ok(v) if v.len() <= 64 && v.bytes().all(|b| b.is_ascii_graphic()) => v,
            _ => "unknown",
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = seen.get(&(kind, version.to_owned())) {
            return counter.clone();
        }
        let version = if seen.len() < CLIENT_VERSIONS_MAX { version } else { "unknown" };
        let counter = self.vector.with_label_values(&[kind, version]);
        seen.insert((kind, version.to_owned()), counter.clone());
        counter
    }
}

//! Leases, their expiry and their keys. The [`Lessor`] is a plain value: the caller passes the time
//! in milliseconds of a clock that never goes back, stores the returned [`LeaseWrite`]s, and deletes
//! the keys of revoked leases. Proposing revocations and checkpoints is left to the caller.
//!
//! Source: etcd v3.7 server/lease/{lessor,lease,lease_queue}.go, server/storage/schema/lease.go.

#![forbid(unsafe_code)]

mod lessor;
mod stored;

pub use lessor::{Checkpoint, Granted, Lessor, Renewal, Revoked, TimeToLive};
pub use stored::{LeaseWrite, StoredLease};

use std::fmt;

/// The longest TTL that can be requested, in seconds.
pub const TTL_S_MAX: i64 = 9_000_000_000;

/// [`Lessor::expired`] returns a lease again after this time if it still exists, in milliseconds.
pub const EXPIRED_RETRY_MS: u64 = 3_000;

/// Leases with more time left than this are checkpointed at this interval, in seconds.
pub const CHECKPOINT_INTERVAL_S: u64 = 300;

/// The shortest TTL that a member grants, in seconds: one and a half election timeouts, in whole
/// ticks, rounded up to a second.
#[must_use]
pub fn ttl_s_min(election_ticks: u64, tick_ms: u64) -> i64 {
    let ms = (election_ticks.saturating_mul(3) / 2).saturating_mul(tick_ms);
    i64::try_from(ms.div_ceil(1000)).unwrap_or(i64::MAX)
}

/// Why a request about a lease failed. Every member that applies it gets the same error, except
/// for `NotPrimary`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseError {
    /// No lease has this id.
    NotFound,
    /// A lease has this id already.
    Exists,
    /// The requested TTL is above [`TTL_S_MAX`].
    TtlTooLarge,
    /// This member does not lead, so its leases have no clock.
    NotPrimary,
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LeaseError::NotFound => "lease not found",
            LeaseError::Exists => "lease already exists",
            LeaseError::TtlTooLarge => "too large lease TTL",
            LeaseError::NotPrimary => "not a primary lessor",
        })
    }
}

impl std::error::Error for LeaseError {}

/// An item of the bucket `lease` that is not a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorruptLease {
    /// The item's key.
    pub key: Vec<u8>,
    /// The reason.
    pub why: String,
}

impl fmt::Display for CorruptLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bucket lease, key {:02x?}: {}", self.key, self.why)
    }
}

impl std::error::Error for CorruptLease {}

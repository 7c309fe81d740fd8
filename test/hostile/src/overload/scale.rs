//! How long an overload run lasts, and how many idle connections it has.

use std::time::Duration;

/// The scale of a run.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Idle connections.
    pub connections: usize,
    /// Watchers on each of them.
    pub watchers: usize,
    /// How long each kind of load lasts by itself.
    pub single: Duration,
    /// How long all of them last together.
    pub together: Duration,
    /// How long the server may take to give memory back.
    pub give_back: Duration,
    /// Whether the light client's times are checked.
    pub checks_times: bool,
}

impl Scale {
    /// About 40 s.
    pub const SHORT: Scale = Scale {
        connections: 1_000,
        watchers: 10,
        single: Duration::from_secs(3),
        together: Duration::from_secs(10),
        give_back: Duration::from_secs(10),
        checks_times: false,
    };
    /// About seven minutes.
    pub const LONG: Scale = Scale {
        connections: 10_000,
        watchers: 10,
        single: Duration::from_secs(10),
        together: Duration::from_secs(300),
        give_back: Duration::from_secs(60),
        checks_times: true,
    };
}

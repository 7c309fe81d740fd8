//! What the code of a fault gets: the server, a seed, and how long it may go on.

use crate::target::Target;
use anyhow::Result;
use rand::rngs::StdRng;
use std::time::{Duration, Instant};

/// In bytes.
pub(crate) const MIB: u64 = 1 << 20;

/// What a fault gets.
#[derive(Debug)]
pub(crate) struct Attack<'a> {
    pub(crate) target: &'a Target,
    pub(crate) rng: StdRng,
    /// How long a flood lasts.
    pub(crate) time: Duration,
    /// Whether the server's own time limits are waited for.
    pub(crate) long: bool,
}

impl Attack<'_> {
    /// Repeats a step until the time of a flood is over; returns the sum of what the steps return.
    pub(crate) fn repeat(&mut self, mut step: impl FnMut(&mut Self) -> Result<u64>) -> Result<u64> {
        let (begun, mut sum) = (Instant::now(), 0);
        while begun.elapsed() < self.time {
            sum += step(self)?;
        }
        Ok(sum)
    }
}

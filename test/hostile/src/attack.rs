//! The arguments of a fault's code: the server, a random number generator, and the time that it may
//! take.

use crate::target::Target;
use anyhow::Result;
use rand::rngs::StdRng;
use std::time::{Duration, Instant};

/// In bytes.
pub(crate) const MIB: u64 = 1 << 20;

/// The arguments of a fault.
#[derive(Debug)]
pub(crate) struct Attack<'a> {
    pub(crate) target: &'a Target,
    pub(crate) rng: StdRng,
    /// How long a flood lasts.
    pub(crate) time: Duration,
    /// Whether the run waits for the server's own time limits.
    pub(crate) long: bool,
}

impl Attack<'_> {
    /// Repeats a step until the time of a flood is over. Returns the sum of the steps' results.
    pub(crate) fn repeat(&mut self, mut step: impl FnMut(&mut Self) -> Result<u64>) -> Result<u64> {
        let (begun, mut sum) = (Instant::now(), 0);
        while begun.elapsed() < self.time {
            sum += step(self)?;
        }
        Ok(sum)
    }
}

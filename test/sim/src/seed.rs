//! The simulation's random numbers.

use random::Random;

/// A stream of numbers.
#[derive(Clone, Debug)]
pub struct Seed(Random);

impl Seed {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Seed {
        Seed(Random::new(seed))
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0.draw()
    }

    /// A number below `limit`; 0 if `limit` is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0.below(limit)
    }

    /// A position in a list of this length.
    pub fn place(&mut self, len: usize) -> usize {
        self.0.index(len)
    }

    /// True once in `times` on average.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

//! Seeded random numbers for election timeouts, simulations and tests. The sequence of a seed is
//! the same on every machine and never changes, so that a seed in a report can be run again.
//!
//! Not here: seeds themselves, which callers pass in; numbers that must be hard to guess.
//!
//! Source: splitmix64, by Guy L. Steele, Doug Lea and Christine H. Flood, 2014.

#![forbid(unsafe_code)]

/// A sequence of random numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A separate sequence for one part of a whole, so that the draws of one part do not shift
    /// those of another.
    #[must_use]
    pub fn part(&self, part: u64) -> Random {
        Random(self.0 ^ part.wrapping_mul(0xD6E8_FEB8_6659_FD93))
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 if `limit` is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw().checked_rem(limit).unwrap_or_default()
    }

    /// An index into a list of `len` items; 0 if the list is empty.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or_default()
    }

    /// True with a probability of `of_256` / 256.
    pub fn chance(&mut self, of_256: u64) -> bool {
        self.draw() >> 56 < of_256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_of_a_seed_never_changes() {
        let mut random = Random::new(1_234_567);
        let drawn = [random.draw(), random.draw(), random.draw()];
        let published =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(drawn, published);
    }

    #[test]
    fn numbers_are_within_their_limits() {
        let mut random = Random::new(1);
        assert!((0..1000).all(|limit| random.below(limit) < limit.max(1)));
        assert_eq!((random.index(0), random.index(1)), (0, 0));
        assert!(!random.chance(0) && random.chance(256));
    }
}

//! The simulated disk's own random numbers (splitmix64): the same on every machine and with
//! every version of every crate, so that a seed in a report stays worth something.

#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// A stream of its own for a part, so that one part's draws do not shift another's.
    pub(super) fn part(&self, part: u64) -> Rng {
        Rng(self.0 ^ part.wrapping_mul(0xD6E8_FEB8_6659_FD93))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`, or 0.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next().checked_rem(limit).unwrap_or_default()
    }

    /// True so many times in 256.
    pub(super) fn chance(&mut self, of_256: u64) -> bool {
        self.next() >> 56 < of_256
    }
}

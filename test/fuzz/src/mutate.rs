//! A seeded mutator: the same seed and corpus give the same inputs.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// The maximum length of an input in bytes.
pub const INPUT_BYTES_MAX: usize = 256 * 1024;

/// Corrects the checksums of an input as far as it can be parsed.
pub type Reseal = fn(Vec<u8>) -> Vec<u8>;

/// Numbers at which code often behaves differently.
const EDGES: [u64; 14] = [
    0,
    1,
    5,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 32,
    i64::MAX.cast_unsigned(),
    1 << 63,
    u64::MAX,
];

/// Generates inputs from a corpus.
#[derive(Debug)]
pub struct Mutator<'a> {
    corpus: &'a [Vec<u8>],
    reseal: Reseal,
    seed: u64,
}

impl<'a> Mutator<'a> {
    /// A mutator of a corpus that is not empty.
    ///
    /// # Panics
    /// When it is empty.
    #[must_use]
    pub fn new(corpus: &'a [Vec<u8>], reseal: Reseal, seed: u64) -> Mutator<'a> {
        assert!(!corpus.is_empty(), "a mutator needs something to begin with");
        Mutator { corpus, reseal, seed }
    }

    /// The input with this number. The first ones are the unchanged corpus.
    #[must_use]
    pub fn input(&self, number: u64) -> Vec<u8> {
        if let Some(first) = usize::try_from(number).ok().and_then(|at| self.corpus.get(at)) {
            return first.clone();
        }
        let mut rng =
            SmallRng::seed_from_u64(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut input = self.pick(&mut rng).clone();
        // Usually one change, rarely many.
        let changes = 1 << rng.random_range(0..4_u32);
        for _ in 0..rng.random_range(1..=changes) {
            self.change(&mut input, &mut rng);
        }
        input.truncate(INPUT_BYTES_MAX);
        if rng.random_bool(0.6) {
            return (self.reseal)(input);
        }
        input
    }

    fn pick(&self, rng: &mut SmallRng) -> &Vec<u8> {
        &self.corpus[rng.random_range(0..self.corpus.len())]
    }

    fn change(&self, input: &mut Vec<u8>, rng: &mut SmallRng) {
        if input.is_empty() {
            input.extend((0..rng.random_range(1..64)).map(|_| rng.random::<u8>()));
            return;
        }
        let at = place(input.len(), rng);
        let len_max = (input.len() - at).min(1 << rng.random_range(0..12_u32));
        let len = rng.random_range(1..=len_max);
        match rng.random_range(0..10) {
            0 | 1 => input[at] ^= 1 << rng.random_range(0..8_u32),
            2 => input[at] = rng.random(),
            3 => {
                let edge = EDGES[rng.random_range(0..EDGES.len())].to_le_bytes();
                let width = [1, 2, 4, 8][rng.random_range(0..4_usize)].min(input.len() - at);
                input[at..at + width].copy_from_slice(&edge[..width]);
            }
            4 => drop(input.drain(at..at + len)),
            5 => {
                let part = input[at..at + len].to_vec();
                let to = place(input.len(), rng);
                input.splice(to..to, part);
            }
            6 => input.truncate(at),
            7 => {
                let sector = at / 512 * 512;
                let end = (sector + 512).min(input.len());
                input[sector..end].fill(0);
            }
            8 => {
                let other = self.pick(rng);
                let from = place(other.len(), rng);
                let len = len.min(other.len() - from);
                let end = (at + len).min(input.len());
                input.splice(at..end, other[from..from + len].iter().copied());
            }
            _ => {
                let random: Vec<u8> = (0..len.min(16)).map(|_| rng.random()).collect();
                input.splice(at..at, random);
            }
        }
    }
}

/// An offset in an input; half of them are near its start, where headers are.
fn place(len: usize, rng: &mut SmallRng) -> usize {
    if len == 0 {
        return 0;
    }
    let near = if rng.random() { len.min(1024) } else { len };
    rng.random_range(0..near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs() {
        let corpus = [b"one thing".to_vec(), vec![7; 3000], Vec::new()];
        let (one, same) =
            (Mutator::new(&corpus, |input| input, 1), Mutator::new(&corpus, |input| input, 1));
        let other = Mutator::new(&corpus, |input| input, 2);
        let mut differ = 0;
        for number in 0..2000 {
            assert_eq!(one.input(number), same.input(number));
            assert!(one.input(number).len() <= INPUT_BYTES_MAX);
            differ += u64::from(one.input(number) != other.input(number));
        }
        assert!(differ > 1500, "only {differ} differ");
        assert_eq!(one.input(1), corpus[1]);
    }
}

//! The keys and values of workloads.

use crate::failure::CommandResult;
use bytes::Bytes;
use proto::varint;
use std::hash::{BuildHasher as _, RandomState};

/// Random numbers and bytes, different in each run.
#[derive(Clone, Debug)]
pub(crate) struct Random(RandomState);

impl Random {
    pub(crate) fn new() -> Random {
        Random(RandomState::new())
    }

    /// The random number of an index, below `end`.
    pub(crate) fn below(&self, index: u64, end: u64) -> u64 {
        self.0.hash_one(index) % end.max(1)
    }

    /// The random number of an index, from 0 to 1.
    pub(crate) fn share(&self, index: u64) -> f64 {
        const STEPS: u32 = 1 << 20;
        f64::from(u32::try_from(self.below(index, STEPS.into())).unwrap_or_default())
            / f64::from(STEPS)
    }

    /// So many random bytes.
    pub(crate) fn bytes(&self, length: usize) -> Bytes {
        let mut bytes = Vec::with_capacity(length + 8);
        for index in 0.. {
            if bytes.len() >= length {
                break;
            }
            bytes.extend_from_slice(&self.0.hash_one((index, length)).to_le_bytes());
        }
        bytes.truncate(length);
        bytes.into()
    }
}

/// Numbered keys of one length.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    length: usize,
    /// How many different keys there are.
    space: u64,
}

impl Keys {
    /// # Errors
    /// When the numbers of so many keys do not fit into so short ones.
    pub(crate) fn new(length: usize, space: u64) -> CommandResult<Keys> {
        let needed = varint::len(zigzag(space.saturating_sub(1)));
        if needed > length {
            return Err(format!("{space} keys need a key size of at least {needed} bytes").into());
        }
        Ok(Keys { length, space })
    }

    /// The key of a number; after the last key, the first one comes again. As in etcd, the number
    /// is a signed varint, and zeros follow.
    pub(crate) fn key(&self, number: u64) -> Bytes {
        let mut key = Vec::with_capacity(self.length);
        varint::put(&mut key, zigzag(number % self.space.max(1)));
        key.resize(self.length, 0);
        key.into()
    }

    /// The number of different keys.
    pub(crate) fn space(&self) -> u64 {
        self.space
    }
}

/// A number that is not negative, as protobuf's `sint64` encodes it.
fn zigzag(number: u64) -> u64 {
    number << 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbered_as_go_numbers_them() {
        let keys = Keys::new(4, 300).unwrap();
        assert_eq!(keys.key(0), [0, 0, 0, 0][..]);
        assert_eq!(keys.key(1), [2, 0, 0, 0][..]);
        assert_eq!(keys.key(299), [0xd6, 4, 0, 0][..]);
        assert_eq!(keys.key(301), keys.key(1));
        assert!(Keys::new(1, 64).is_ok());
        assert!(Keys::new(1, 65).is_err());
    }

    #[test]
    fn random_bytes_have_the_length_and_differ() {
        let random = Random::new();
        assert_eq!(random.bytes(13).len(), 13);
        assert_ne!(random.bytes(32), Random::new().bytes(32));
        assert!((0..100).all(|index| random.below(index, 3) < 3));
        assert!((0..100).all(|index| (0.0..1.0).contains(&random.share(index))));
    }
}

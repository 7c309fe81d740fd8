//! Varints of protobuf, for messages that are encoded and decoded by hand: 7 bits in each byte,
//! least significant first, and the top bit set in all bytes but the last.
//!
//! Source: the encoding guide of Protocol Buffers.

use bytes::BufMut;

/// The longest varint, in bytes.
pub const LEN_MAX: usize = 10;

/// The length of the encoding in bytes.
#[must_use]
pub fn len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Encodes to the beginning of `to`, and returns the length.
///
/// # Panics
/// If `to` is too short; [`LEN_MAX`] bytes always suffice.
pub fn write(to: &mut [u8], mut value: u64) -> usize {
    let mut at = 0;
    while value >= 0x80 {
        to[at] = value.to_le_bytes()[0] | 0x80;
        value >>= 7;
        at += 1;
    }
    to[at] = value.to_le_bytes()[0];
    at + 1
}

/// Appends the encoding to `to`.
pub fn put(to: &mut impl BufMut, value: u64) {
    let mut bytes = [0; LEN_MAX];
    let len = write(&mut bytes, value);
    to.put_slice(&bytes[..len]);
}

/// Decodes the varint at the beginning of `bytes`, and returns its length too. `None` if the bytes
/// end early or the value has more than 64 bits.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(LEN_MAX) {
        if at == LEN_MAX - 1 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::encoding::{encode_varint, encoded_len_varint};

    #[test]
    fn every_length_has_the_bytes_of_prost() {
        for bit in 0..64 {
            for value in [0, (1_u64 << bit) - 1, 1 << bit, u64::MAX] {
                let (mut ours, mut theirs) = (Vec::new(), Vec::new());
                put(&mut ours, value);
                encode_varint(value, &mut theirs);
                assert_eq!(ours, theirs);
                assert_eq!((len(value), len(value)), (ours.len(), encoded_len_varint(value)));
                assert_eq!(read(&ours), Some((value, ours.len())));
                ours.push(7);
                assert_eq!(read(&ours), Some((value, ours.len() - 1)));
                assert_eq!(read(&ours[..ours.len() - 2]), None);
            }
        }
    }

    #[test]
    fn more_than_64_bits_are_refused() {
        let mut bytes = [0xff; 11];
        assert_eq!(read(&bytes), None);
        bytes[9] = 1;
        assert_eq!(read(&bytes), Some((u64::MAX, 10)));
        bytes[9] = 2;
        assert_eq!(read(&bytes), None);
    }
}

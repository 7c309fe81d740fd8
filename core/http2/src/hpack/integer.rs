//! Integers with a prefix of some bits.
//!
//! Source: RFC 7541 §5.1.

/// Larger integers are refused. All valid lengths, indexes and table sizes are much smaller.
const INTEGER_MAX: u64 = 1 << 28;

/// Reads an integer whose prefix is the low `bits` bits of the first byte, and advances the block.
/// `None` if the block ends within the integer, or it is too large.
pub(super) fn read(block: &mut &[u8], bits: u32) -> Option<usize> {
    let (first, mut rest) = block.split_first()?;
    let mask = u8::MAX >> (8 - bits);
    let mut value = u64::from(first & mask);
    if value == u64::from(mask) {
        let mut shift = 0;
        loop {
            let (byte, behind) = rest.split_first()?;
            rest = behind;
            value += u64::from(byte & 0x7f) << shift;
            if value > INTEGER_MAX || shift > 28 {
                return None;
            }
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
        }
    }
    *block = rest;
    usize::try_from(value).ok()
}

/// Writes an integer. The high bits of its first byte are `flags`.
pub(super) fn write(value: usize, bits: u32, flags: u8, out: &mut Vec<u8>) {
    let mask = (1_usize << bits) - 1;
    let low = |value: usize| u8::try_from(value & 0xff).unwrap_or(0);
    if value < mask {
        return out.push(flags | low(value));
    }
    out.push(flags | low(mask));
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(low(rest & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.push(low(rest));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_those_of_rfc_7541_c_1() {
        for (value, bits, bytes) in
            [(10, 5, &[10][..]), (1337, 5, &[31, 154, 10]), (42, 8, &[42]), (31, 5, &[31, 0])]
        {
            let mut out = Vec::new();
            write(value, bits, 0, &mut out);
            assert_eq!(out, bytes);
            let mut block = &out[..];
            assert_eq!((read(&mut block, bits), block.len()), (Some(value), 0));
        }
    }

    #[test]
    fn integers_that_are_too_large_or_cut_are_refused() {
        for bytes in [
            &[31, 0xff, 0xff, 0xff, 0xff, 0x0f][..],
            &[31, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0],
            &[31],
            &[31, 0x80],
            &[],
        ] {
            let mut block = bytes;
            assert_eq!(read(&mut block, 5), None, "{bytes:?}");
        }
    }
}

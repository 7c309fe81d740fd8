//! Decodes Huffman-coded strings four bits at a time, with a table built at compile time.
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, so
//! the lengths define it. Responses are not Huffman-coded.
//!
//! Source: RFC 7541 §5.2 and appendix B.

/// The length in bits of each symbol's code. The end symbol has 30 bits, all ones.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
const LENGTH_MAX: u8 = 30;
/// The inner nodes of the code's tree: one fewer than its 257 leaves.
const NODES: usize = 256;
/// Marks a child that is a symbol, whose number is in the low bits.
const LEAF: u16 = 0x8000;
/// The child of the tree that is the end symbol.
const END: u16 = 0x4000;

/// The result of reading four bits at a node.
#[derive(Clone, Copy)]
struct Step {
    next: u8,
    symbol: u8,
    has_symbol: bool,
    /// The bits contain the end symbol, which is not allowed in a string.
    is_end: bool,
}

const fn tree() -> [[u16; 2]; NODES] {
    let mut nodes = [[0_u16; 2]; NODES];
    let (mut used, mut code, mut length) = (1_u16, 0_u32, 1_u8);
    while length <= LENGTH_MAX {
        let mut symbol = 0_u16;
        while symbol <= 256 {
            let len = if symbol == 256 { LENGTH_MAX } else { LENGTHS[symbol as usize] };
            if len == length {
                let (mut node, mut bit) = (0_usize, length);
                while bit > 0 {
                    bit -= 1;
                    let side = ((code >> bit) & 1) as usize;
                    if bit == 0 {
                        nodes[node][side] = if symbol == 256 { END } else { LEAF | symbol };
                    } else {
                        if nodes[node][side] == 0 {
                            nodes[node][side] = used;
                            used += 1;
                        }
                        node = nodes[node][side] as usize;
                    }
                }
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        length += 1;
    }
    nodes
}

#[expect(clippy::cast_possible_truncation, reason = "symbols and nodes are below 256")]
const fn steps() -> [[Step; 16]; NODES] {
    let nodes = tree();
    let mut steps = [[Step { next: 0, symbol: 0, has_symbol: false, is_end: false }; 16]; NODES];
    let mut node = 0;
    while node < NODES {
        let mut nibble = 0;
        while nibble < 16 {
            let mut step = Step { next: 0, symbol: 0, has_symbol: false, is_end: false };
            let (mut at, mut bit) = (node, 4);
            while bit > 0 {
                bit -= 1;
                let child = nodes[at][(nibble >> bit) & 1];
                if child == END {
                    step.is_end = true;
                    at = 0;
                } else if child & LEAF != 0 {
                    step.symbol = (child & 0xff) as u8;
                    step.has_symbol = true;
                    at = 0;
                } else {
                    at = child as usize;
                }
            }
            step.next = at as u8;
            steps[node][nibble] = step;
            nibble += 1;
        }
        node += 1;
    }
    steps
}

/// The nodes at which a string may end: those that at most seven one bits lead to (the padding).
const fn ends() -> [bool; NODES] {
    let nodes = tree();
    let mut ends = [false; NODES];
    let (mut node, mut depth) = (0_usize, 0);
    while depth < 8 {
        ends[node] = true;
        node = nodes[node][1] as usize;
        depth += 1;
    }
    ends
}

static STEPS: [[Step; 16]; NODES] = steps();
static ENDS: [bool; NODES] = ends();

/// Appends the decoded string; false if it is not a Huffman-coded string.
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    out.reserve(bytes.len() + bytes.len() / 2);
    let mut node = 0_u8;
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            let step = &STEPS[usize::from(node)][usize::from(nibble)];
            if step.is_end {
                return false;
            }
            if step.has_symbol {
                out.push(step.symbol);
            }
            node = step.next;
        }
    }
    ENDS[usize::from(node)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Option<String> {
        let mut out = Vec::new();
        decode(bytes, &mut out).then(|| String::from_utf8(out).unwrap())
    }

    /// The code of each symbol, computed from the lengths.
    fn codes() -> Vec<(u32, u8)> {
        let mut codes = vec![(0, 0); 256];
        let mut code = 0_u32;
        for length in 1..=LENGTH_MAX {
            for (symbol, len) in LENGTHS.iter().enumerate() {
                if *len == length {
                    codes[symbol] = (code, length);
                    code += 1;
                }
            }
            code <<= 1;
        }
        codes
    }

    fn encode(text: &[u8]) -> Vec<u8> {
        let codes = codes();
        let bits: String = text
            .iter()
            .map(|byte| {
                let (code, len) = codes[usize::from(*byte)];
                format!("{code:0len$b}", len = usize::from(len))
            })
            .collect();
        let bits = format!("{bits:1<width$}", width = bits.len().div_ceil(8) * 8);
        bits.as_bytes()
            .chunks(8)
            .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap())
            .collect()
    }

    #[test]
    fn strings_of_rfc_7541_c_4_are_decoded() {
        let example = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(text(&example).unwrap(), "www.example.com");
        assert_eq!(text(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).unwrap(), "no-cache");
        assert_eq!(text(&[]).unwrap(), "");
    }

    #[test]
    fn every_byte_round_trips_at_every_offset() {
        for byte in 0..=255_u8 {
            for before in 0..8 {
                let string = [&b"00000000"[..before], &[byte], b"z"].concat();
                let mut out = Vec::new();
                assert!(decode(&encode(&string), &mut out), "{byte} at {before}");
                assert_eq!(out, string);
            }
        }
    }

    #[test]
    fn padding_must_be_less_than_a_byte_of_ones_and_the_end_symbol_is_refused() {
        // "0" is 00000; the padding is three bits.
        assert_eq!(text(&[0b0000_0111]).unwrap(), "0");
        assert_eq!(text(&[0b0000_0110]), None, "not the start of the end symbol");
        assert_eq!(text(&[0b0000_0111, 0xff]), None, "eleven bits of padding");
        assert_eq!(text(&[0xff, 0xff, 0xff, 0xff]), None, "the end symbol");
    }
}

//! Protobuf messages of unknown type as text, to read and compare the output of `-w protobuf`.

use std::fmt::Write;

/// The maximum depth of nested messages.
const DEPTH_MAX: usize = 8;

/// The fields of a message, one per line; `None` if the bytes are not a message.
#[must_use]
pub fn dump(bytes: &[u8]) -> Option<String> {
    let mut text = String::new();
    fields(bytes, 0, &mut text).then_some(text)
}

fn fields(mut bytes: &[u8], depth: usize, to: &mut String) -> bool {
    while !bytes.is_empty() {
        let Some(tag) = varint(&mut bytes) else { return false };
        let field = tag >> 3;
        if field == 0 {
            return false;
        }
        let indent = "  ".repeat(depth);
        // Writing to a String cannot fail.
        let written = match tag & 7 {
            0 => varint(&mut bytes).map(|value| writeln!(to, "{indent}{field}: {value}")),
            1 => take(&mut bytes, 8).map(|value| writeln!(to, "{indent}{field}: {value:02x?}")),
            2 => {
                let Some(len) = varint(&mut bytes).and_then(|len| usize::try_from(len).ok()) else {
                    return false;
                };
                take(&mut bytes, len).map(|value| delimited(field, value, depth, to))
            }
            5 => take(&mut bytes, 4).map(|value| writeln!(to, "{indent}{field}: {value:02x?}")),
            _ => return false,
        };
        if !matches!(written, Some(Ok(()))) {
            return false;
        }
    }
    true
}

fn delimited(field: u64, value: &[u8], depth: usize, to: &mut String) -> std::fmt::Result {
    let indent = "  ".repeat(depth);
    let printable =
        std::str::from_utf8(value).ok().filter(|text| text.chars().all(|char| !char.is_control()));
    if let Some(text) = printable {
        return writeln!(to, "{indent}{field}: {text:?}");
    }
    let mut inner = String::new();
    if depth < DEPTH_MAX && fields(value, depth + 1, &mut inner) {
        return write!(to, "{indent}{field} {{\n{inner}{indent}}}\n");
    }
    writeln!(to, "{indent}{field}: {value:02x?}")
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_its_fields() {
        let bytes = [8, 150, 1, 18, 3, b'f', b'o', b'o', 26, 2, 8, 7];
        assert_eq!(dump(&bytes).unwrap(), "1: 150\n2: \"foo\"\n3 {\n  1: 7\n}\n");
    }

    #[test]
    fn other_bytes_are_none() {
        assert_eq!(dump(&[8]), None);
        assert_eq!(dump(&[18, 200, 1]), None);
        assert_eq!(dump(&[7, 7]), None);
    }
}

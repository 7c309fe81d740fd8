//! Range ends that select all keys with a prefix, or all keys from a key on.
//!
//! Source: etcd v3.7.1 client/v3/op.go `GetPrefixRangeEnd`, `WithFromKey`.

/// The end of the range of all keys with this prefix: the last byte below 0xff is incremented, and
/// the bytes after it are dropped. Without such a byte, `\0`, which means the end of all keys.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let kept = prefix.iter().rposition(|byte| *byte < 0xff);
    let Some(last) = kept else { return from_key() };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end
}

/// The end of a range of all keys from a key on.
#[must_use]
pub fn from_key() -> Vec<u8> {
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_has_its_last_byte_incremented() {
        assert_eq!(prefix_end(b"ab"), b"ac");
        assert_eq!(prefix_end(b"a\xff\xff"), b"b");
        assert_eq!(prefix_end(b"\xff"), b"\0");
        assert_eq!(prefix_end(b""), b"\0");
    }
}

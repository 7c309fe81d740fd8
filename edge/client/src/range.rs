//! The ends of ranges that stand for a prefix and for everything from a key on.
//!
//! Source: etcd v3.7.1 client/v3/op.go `GetPrefixRangeEnd`, `WithFromKey`.

/// The end of the range of all keys that begin with `prefix`: the prefix with its last byte that
/// can be raised raised by one; `\0`, the end of everything, when there is none.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let kept = prefix.iter().rposition(|byte| *byte < 0xff);
    let Some(last) = kept else { return from_key() };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end
}

/// The end of the range of all keys from some key on.
#[must_use]
pub fn from_key() -> Vec<u8> {
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_its_last_byte_is_raised() {
        assert_eq!(prefix_end(b"ab"), b"ac");
        assert_eq!(prefix_end(b"a\xff\xff"), b"b");
        assert_eq!(prefix_end(b"\xff"), b"\0");
        assert_eq!(prefix_end(b""), b"\0");
    }
}

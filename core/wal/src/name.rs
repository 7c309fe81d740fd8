//! Names of segments: the sequence number and the index of the first entry that the segment may
//! contain, each as 16 hexadecimal digits (etcd server/storage/wal/util.go @ v3.7.1).

use proto::Index;

/// A parsed segment name, in the order of the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    pub(crate) seq: u64,
    pub(crate) index: Index,
}

impl SegmentName {
    /// `None` if it is not the name of a segment: `0.tmp`, `*.broken`, files of the user.
    pub(crate) fn parse(name: &str) -> Option<SegmentName> {
        let (seq, index) = name.strip_suffix(".wal")?.split_once('-')?;
        Some(SegmentName { seq: hex(seq)?, index: Index(hex(index)?) })
    }
}

/// Parses exactly 16 hexadecimal digits.
pub(crate) fn hex(digits: &str) -> Option<u64> {
    let plain = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

impl std::fmt::Display for SegmentName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}-{:016x}.wal", self.seq, self.index.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_names_are_parsed_and_others_refused() {
        let name = SegmentName { seq: 1, index: Index(0x45) };
        assert_eq!(name.to_string(), "0000000000000001-0000000000000045.wal");
        assert_eq!(SegmentName::parse(&name.to_string()), Some(name));
        for other in ["0.tmp", "1-2.wal", "0000000000000001-0000000000000045.wal.broken", ".wal"] {
            assert_eq!(SegmentName::parse(other), None);
        }
        assert_eq!(SegmentName::parse("+000000000000001-0000000000000045.wal"), None);
    }
}

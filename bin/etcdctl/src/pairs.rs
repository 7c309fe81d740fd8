//! The keys and values that the checks write.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/check.go.

use proto::etcdserverpb::PutRequest;
use proto::varint;

/// The keys and values that are written.
#[derive(Clone, Debug)]
pub(crate) struct Pairs {
    /// The prefix of every key.
    pub(crate) prefix: Vec<u8>,
    /// The length of a key after the prefix: a number, then zeros.
    pub(crate) key_bytes: usize,
    /// The length of a value, whose bytes are zeros.
    pub(crate) value_bytes: usize,
}

impl Pairs {
    /// The write of the key with this number.
    pub(crate) fn pair(&self, number: u64) -> PutRequest {
        let mut key = self.prefix.clone();
        varint::put(&mut key, number);
        key.resize(self.prefix.len() + self.key_bytes, 0);
        let value = vec![0; self.value_bytes];
        PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_have_the_sizes_and_the_prefix() {
        let pairs = Pairs { prefix: b"p/".to_vec(), key_bytes: 256, value_bytes: 1024 };
        let put = pairs.pair(300);
        assert_eq!((put.key.len(), put.value.len()), (258, 1024));
        assert_eq!(put.key[..5], *b"p/\xac\x02\0");
        assert_ne!(put.key, pairs.pair(301).key);
        assert_eq!(pairs.pair(u64::MAX).key.len(), 258);
    }
}

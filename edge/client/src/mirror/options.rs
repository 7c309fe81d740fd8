//! The keys that a mirror copies, and their names at the destination.

use crate::range::{from_key, prefix_end};
use proto::etcdserverpb as pb;
use proto::mvccpb::KeyValue;

/// Selects the keys to copy and their names at the destination.
#[derive(Clone, Debug)]
pub struct MirrorOptions {
    /// The keys with this prefix; empty for all.
    pub prefix: Vec<u8>,
    /// Replaces the prefix at the destination.
    pub dest_prefix: Vec<u8>,
    /// The maximum number of operations of a transaction at the destination, at least 1. The changes
    /// of a revision that has more are spread over several transactions.
    pub txn_ops_max: usize,
}

impl MirrorOptions {
    /// etcd's default for `txn_ops_max`, and for the limit of a server.
    pub const TXN_OPS_MAX: usize = 128;

    /// The keys with a prefix, under the same names.
    #[must_use]
    pub fn of_prefix(prefix: impl Into<Vec<u8>>) -> MirrorOptions {
        let prefix = prefix.into();
        let dest_prefix = prefix.clone();
        MirrorOptions { prefix, dest_prefix, txn_ops_max: MirrorOptions::TXN_OPS_MAX }
    }

    /// The range of the keys: the first one, and the end.
    pub(super) fn range(&self) -> (Vec<u8>, Vec<u8>) {
        let first = if self.prefix.is_empty() { vec![0] } else { self.prefix.clone() };
        let end = if self.prefix.is_empty() { from_key() } else { prefix_end(&self.prefix) };
        (first, end)
    }

    /// The name at the destination of a key with the prefix.
    pub(super) fn renamed(&self, key: &[u8]) -> Vec<u8> {
        [&self.dest_prefix, key.strip_prefix(&self.prefix[..]).unwrap_or(key)].concat()
    }
}

/// The request that puts a key of the source into the destination.
pub(super) fn put(kv: &KeyValue, options: &MirrorOptions) -> pb::PutRequest {
    let key = options.renamed(&kv.key).into();
    pb::PutRequest { key, value: kv.value.clone(), ..pb::PutRequest::default() }
}

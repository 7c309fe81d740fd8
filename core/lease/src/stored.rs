//! The item of a lease in the bucket `lease`: the id, 8 bytes big-endian, to a `leasepb.Lease`.
//!
//! Source: etcd v3.7 server/storage/schema/lease.go.

use crate::CorruptLease;
use bytes::Bytes;
use prost::Message as _;
use proto::{LeaseId, leasepb};

/// A stored lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredLease {
    /// Its id. Negative ones exist.
    pub id: LeaseId,
    /// The granted TTL in seconds.
    pub ttl_s: i64,
    /// The remaining time at the last checkpoint, in seconds; 0 without one.
    pub remaining_ttl_s: i64,
}

impl StoredLease {
    /// The key in the bucket.
    #[must_use]
    pub fn key(id: LeaseId) -> [u8; 8] {
        id.0.to_be_bytes()
    }

    /// The value in the bucket.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let pb =
            leasepb::Lease { id: self.id.0, ttl: self.ttl_s, remaining_ttl: self.remaining_ttl_s };
        pb.encode_to_vec().into()
    }

    /// Reads an item of the bucket.
    ///
    /// # Errors
    /// When the value is not a lease, or has another id than the key.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<StoredLease, CorruptLease> {
        let corrupt = |why: String| CorruptLease { key: key.to_vec(), why };
        let pb = leasepb::Lease::decode(value).map_err(|error| corrupt(error.to_string()))?;
        if key != pb.id.to_be_bytes() {
            return Err(corrupt(format!("the value is lease {:x}", pb.id)));
        }
        Ok(StoredLease { id: LeaseId(pb.id), ttl_s: pb.ttl, remaining_ttl_s: pb.remaining_ttl })
    }
}

/// A change of the bucket `lease`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseWrite {
    /// The key.
    pub key: [u8; 8],
    /// The new value; `None` deletes the key.
    pub value: Option<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_etcds() {
        let lease = StoredLease { id: LeaseId(0x1234), ttl_s: 60, remaining_ttl_s: 0 };
        assert_eq!(StoredLease::key(lease.id), [0, 0, 0, 0, 0, 0, 0x12, 0x34]);
        assert_eq!(&lease.encode()[..], [0x08, 0xb4, 0x24, 0x10, 0x3c]);
        assert_eq!(StoredLease::decode(&StoredLease::key(lease.id), &lease.encode()), Ok(lease));
    }

    #[test]
    fn a_negative_id_survives_its_bytes() {
        for id in [-1, i64::MIN, i64::MAX] {
            let lease = StoredLease { id: LeaseId(id), ttl_s: 5, remaining_ttl_s: 3 };
            let key = StoredLease::key(lease.id);
            assert_eq!(StoredLease::decode(&key, &lease.encode()), Ok(lease));
        }
    }

    #[test]
    fn an_item_that_is_not_a_lease_is_refused() {
        let lease = StoredLease { id: LeaseId(7), ttl_s: 60, remaining_ttl_s: 0 };
        assert!(StoredLease::decode(&[0; 8], &lease.encode()).is_err());
        assert!(StoredLease::decode(&[7], &lease.encode()).is_err());
        assert!(StoredLease::decode(&StoredLease::key(lease.id), &[0xff]).is_err());
    }
}

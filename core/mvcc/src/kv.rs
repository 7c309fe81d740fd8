//! The encoding of `mvccpb.KeyValue`, as it is stored, hashed and sent: fields in ascending order,
//! without zeros and empty strings. The decoder accepts other orders and unknown fields.
//!
//! Source: etcd v3.7 api/mvccpb/kv.proto.

use bytes::{BufMut, Bytes, BytesMut};
use proto::varint;

const KEY: u8 = 0x0a;
const CREATE_REVISION: u8 = 0x10;
const MOD_REVISION: u8 = 0x18;
const VERSION: u8 = 0x20;
const VALUE: u8 = 0x2a;
const LEASE: u8 = 0x30;

/// A key-value that borrows its strings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyValue<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The revision of the first put since the key was last deleted.
    pub create_revision: i64,
    /// The revision of this version.
    pub mod_revision: i64,
    /// The number of puts since the key was last deleted.
    pub version: i64,
    /// The value.
    pub value: &'a [u8],
    /// The lease; 0 for none.
    pub lease: i64,
}

/// Bytes that are not an encoded key-value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError;

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not an encoded key-value")
    }
}

impl std::error::Error for DecodeError {}

impl<'a> KeyValue<'a> {
    /// Decodes a key-value. Unknown fields are skipped.
    ///
    /// # Errors
    /// When the bytes are not an encoding of the message.
    pub fn decode(bytes: &'a [u8]) -> Result<KeyValue<'a>, DecodeError> {
        let mut kv = KeyValue::default();
        let mut reader = Reader { bytes };
        while !reader.bytes.is_empty() {
            let tag = reader.varint()?;
            if tag > u64::from(u32::MAX) || tag >> 3 == 0 {
                return Err(DecodeError);
            }
            let number = match u8::try_from(tag) {
                Ok(KEY) => {
                    kv.key = reader.string()?;
                    continue;
                }
                Ok(VALUE) => {
                    kv.value = reader.string()?;
                    continue;
                }
                Ok(CREATE_REVISION) => &mut kv.create_revision,
                Ok(MOD_REVISION) => &mut kv.mod_revision,
                Ok(VERSION) => &mut kv.version,
                Ok(LEASE) => &mut kv.lease,
                Ok(_) | Err(_) => {
                    reader.skip(tag)?;
                    continue;
                }
            };
            *number = reader.varint()?.cast_signed();
        }
        Ok(kv)
    }

    /// The length of the encoding in bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let string = |string: &[u8]| match string.len() {
            0 => 0,
            len => 1 + varint::len(len as u64) + len,
        };
        let number = |number: i64| match number {
            0 => 0,
            number => 1 + varint::len(number.cast_unsigned()),
        };
        string(self.key)
            + number(self.create_revision)
            + number(self.mod_revision)
            + number(self.version)
            + string(self.value)
            + number(self.lease)
    }

    /// Appends the encoding.
    pub fn encode(&self, to: &mut BytesMut) {
        put_string(to, KEY, self.key);
        put_number(to, CREATE_REVISION, self.create_revision);
        put_number(to, MOD_REVISION, self.mod_revision);
        put_number(to, VERSION, self.version);
        put_string(to, VALUE, self.value);
        put_number(to, LEASE, self.lease);
    }

    /// The encoding.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(self.encoded_len());
        self.encode(&mut buffer);
        buffer.freeze()
    }
}

fn put_string(to: &mut BytesMut, tag: u8, string: &[u8]) {
    if !string.is_empty() {
        to.put_u8(tag);
        varint::put(to, string.len() as u64);
        to.put_slice(string);
    }
}

fn put_number(to: &mut BytesMut, tag: u8, number: i64) {
    if number != 0 {
        to.put_u8(tag);
        varint::put(to, number.cast_unsigned());
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64, DecodeError> {
        let (number, len) = varint::read(self.bytes).ok_or(DecodeError)?;
        self.bytes = &self.bytes[len..];
        Ok(number)
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(len).map_err(|_| DecodeError)?;
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(DecodeError)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn string(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.varint()?;
        self.take(len)
    }

    fn skip(&mut self, tag: u64) -> Result<(), DecodeError> {
        match tag & 7 {
            0 => self.varint().map(drop),
            1 => self.take(8).map(drop),
            2 => self.string().map(drop),
            5 => self.take(4).map(drop),
            _ => Err(DecodeError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    fn pb(kv: &KeyValue<'_>) -> proto::mvccpb::KeyValue {
        proto::mvccpb::KeyValue {
            key: Bytes::copy_from_slice(kv.key),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            value: Bytes::copy_from_slice(kv.value),
            lease: kv.lease,
        }
    }

    #[test]
    fn the_encoding_is_that_of_prost() {
        let long = vec![7; 20_000];
        for numbers in [[0, 0, 0, 0], [1, 2, 3, -4], [i64::MAX, i64::MIN, 127, 128]] {
            for (key, value) in [(&b""[..], &b""[..]), (b"k", b"v"), (&long[..200], &long)] {
                let [create_revision, mod_revision, version, lease] = numbers;
                let kv = KeyValue { key, create_revision, mod_revision, version, value, lease };
                let want = pb(&kv).encode_to_vec();
                assert_eq!(kv.to_bytes(), want);
                assert_eq!(kv.encoded_len(), want.len());
                assert_eq!(KeyValue::decode(&want), Ok(kv));
            }
        }
    }

    #[test]
    fn decoding_agrees_with_prost() {
        let mut seed = 1u64;
        for _ in 0..200_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut bytes = b"\x0a\x01k\x10\x05\x18\x07\x20\x01\x2a\x02vv\x30\x09".to_vec();
            let random = seed.to_be_bytes();
            let at = usize::from(random[0]) % bytes.len();
            bytes[at] = random[1];
            if random[2] < 64 {
                bytes.truncate(usize::from(random[3]) % 15);
            }
            let ours = KeyValue::decode(&bytes).map(|kv| pb(&kv)).ok();
            let theirs = proto::mvccpb::KeyValue::decode(&bytes[..]).ok();
            // Like Go, we skip a known field of an unexpected type, and prost does not. Prost skips
            // groups, which etcd never wrote.
            let group = bytes.iter().any(|byte| byte & 7 == 3);
            assert!(theirs.is_none() || ours == theirs || group, "{bytes:02x?}");
        }
    }
}

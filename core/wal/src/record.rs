//! A record of the log: proto2 `walpb.Record`, decoded by hand because every entry passes through
//! here. Layout (etcd server/storage/wal/walpb/record.proto @ v3.7.1):
//!
//! | field | number | type |
//! |---|---|---|
//! | type | 1 | int64: 1 metadata, 2 entry, 3 state, 4 crc, 5 snapshot |
//! | crc | 2 | uint32: crc32c of the data of all records up to and including this one |
//! | data | 3 | bytes; absent in a crc record |
//! | mark | 15 | fixed64, ours: see [`Mark`]; etcd skips it as an unknown field |

use bytes::Bytes;
use crc32c::crc32c_append;
use proto::varint;

/// The type of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// The ids of the member and the cluster.
    Metadata,
    /// An entry of the raft log.
    Entry,
    /// A hard state.
    State,
    /// The running crc, at the beginning of a segment.
    Crc,
    /// A snapshot was taken or received.
    Snapshot,
}

impl RecordKind {
    fn from_number(number: u64) -> Option<RecordKind> {
        Some(match number {
            1 => RecordKind::Metadata,
            2 => RecordKind::Entry,
            3 => RecordKind::State,
            4 => RecordKind::Crc,
            5 => RecordKind::Snapshot,
            _ => return None,
        })
    }

    pub(crate) fn number(self) -> u8 {
        match self {
            RecordKind::Metadata => 1,
            RecordKind::Entry => 2,
            RecordKind::State => 3,
            RecordKind::Crc => 4,
            RecordKind::Snapshot => 5,
        }
    }
}

/// A decoded record. Its crc is not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: RecordKind,
    pub(crate) crc: u32,
    pub(crate) data: Bytes,
    pub(crate) mark: Option<Mark>,
}

/// The batch mark, in the last record of each batch that we write: the distance back to the start
/// of the batch, and a checksum. Everything before the start was synced before the batch was
/// written, so a gap there is damage, while a gap after it is a torn batch. The checksum includes
/// the position of the mark, so the mark can be trusted even if the records around it are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(pub(crate) u64);

impl Mark {
    /// The mark of a record whose frame is at `offset` of segment `seq`, in a batch that began at
    /// `start`; `crc` is the record's.
    pub(crate) fn new(seq: u64, start: u64, offset: u64, crc: u32) -> Mark {
        // A batch is written from memory, so it is always shorter than 32 GiB.
        let distance = u32::try_from((offset - start) / 8).unwrap_or(u32::MAX);
        Mark(u64::from(distance) << 32 | u64::from(check(seq, distance, offset, crc)))
    }

    /// The offset at which the batch begins; `None` if the mark was not written at this position.
    pub(crate) fn start(self, seq: u64, offset: u64, crc: u32) -> Option<u64> {
        let [d0, d1, d2, d3, c0, c1, c2, c3] = self.0.to_be_bytes();
        let distance = u32::from_be_bytes([d0, d1, d2, d3]);
        let good = u32::from_be_bytes([c0, c1, c2, c3]) == check(seq, distance, offset, crc);
        if good { offset.checked_sub(u64::from(distance) * 8) } else { None }
    }
}

fn check(seq: u64, distance: u32, offset: u64, crc: u32) -> u32 {
    let sum = crc32c_append(0, &seq.to_le_bytes());
    let sum = crc32c_append(sum, &offset.to_le_bytes());
    let sum = crc32c_append(sum, &distance.to_le_bytes());
    crc32c_append(sum, &crc.to_le_bytes())
}

impl Record {
    /// Decodes a record. The error is a short description.
    pub(crate) fn parse(bytes: &Bytes) -> Result<Record, &'static str> {
        let mut fields = Fields { bytes, at: 0 };
        let mut record = Record { kind: RecordKind::Crc, crc: 0, data: Bytes::new(), mark: None };
        let mut kind = None;
        while fields.at < bytes.len() {
            let tag = fields.varint().ok_or("a field without a number")?;
            match tag {
                0x08 => {
                    let number = fields.varint().ok_or("no record type")?;
                    kind = Some(RecordKind::from_number(number).ok_or("an unknown record type")?);
                }
                0x10 => {
                    let crc = fields.varint().ok_or("no crc")?;
                    record.crc = u32::try_from(crc).map_err(|_| "a crc of more than 32 bits")?;
                }
                0x1a => record.data = fields.bytes().ok_or("data that ends early")?,
                0x79 => record.mark = Some(Mark(fields.fixed64().ok_or("a mark that ends early")?)),
                _ => fields.skip(tag).ok_or("a field that cannot be read")?,
            }
        }
        record.kind = kind.ok_or("no record type")?;
        Ok(record)
    }
}

struct Fields<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl Fields<'_> {
    fn varint(&mut self) -> Option<u64> {
        let (value, len) = varint::read(self.bytes.get(self.at..)?)?;
        self.at += len;
        Some(value)
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let len = usize::try_from(self.varint()?).ok()?;
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len())?;
        let data = self.bytes.slice(self.at..end);
        self.at = end;
        Some(data)
    }

    fn fixed64(&mut self) -> Option<u64> {
        let eight = self.bytes.get(self.at..)?.first_chunk::<8>()?;
        self.at += 8;
        Some(u64::from_le_bytes(*eight))
    }

    fn skip(&mut self, tag: u64) -> Option<()> {
        if tag >> 3 == 0 {
            return None;
        }
        match tag & 7 {
            0 => drop(self.varint()?),
            1 => drop(self.fixed64()?),
            2 => drop(self.bytes()?),
            5 => {
                self.bytes.get(self.at..)?.first_chunk::<4>()?;
                self.at += 4;
            }
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_skipped_and_cut_ones_refused() {
        let good = [0x08, 2, 0x10, 5, 0x1a, 1, 9, 0x20, 7, 0x2a, 2, 1, 2, 0x35, 0, 0, 0, 0];
        let record = Record::parse(&Bytes::copy_from_slice(&good)).unwrap();
        assert_eq!((record.kind, record.crc, &record.data[..]), (RecordKind::Entry, 5, &[9][..]));
        let mut fine = 0;
        for end in 0..good.len() {
            fine += usize::from(Record::parse(&Bytes::copy_from_slice(&good[..end])).is_ok());
        }
        assert_eq!(fine, 5, "after each whole field but none");
        for bad in [&[0x08, 6][..], &[0x08, 2, 0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]] {
            assert!(Record::parse(&Bytes::copy_from_slice(bad)).is_err());
        }
    }

    #[test]
    fn a_mark_is_valid_only_at_its_own_position() {
        let mark = Mark::new(3, 80, 4096, 0xdead_beef);
        assert_eq!(mark.start(3, 4096, 0xdead_beef), Some(80));
        assert_eq!(mark.start(4, 4096, 0xdead_beef), None);
        assert_eq!(mark.start(3, 4104, 0xdead_beef), None);
        assert_eq!(mark.start(3, 4096, 0xdead_beee), None);
        assert_eq!(Mark(mark.0 ^ 1 << 40).start(3, 4096, 0xdead_beef), None);
    }
}

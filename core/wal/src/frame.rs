//! Frames, which contain the records of a segment. Layout (etcd server/storage/wal/encoder.go @ v3.7.1):
//!
//! | bytes | what |
//! |---|---|
//! | 8 | little-endian: bits 0..56 the record's length L; bits 56..59 the padding P = -L mod 8; bit 63 set if P > 0 |
//! | L | the record |
//! | P | zeros |
//!
//! A length field of 0 ends the segment. The running crc32c covers the data of all records of all
//! segments. Frames begin at multiples of 8, so a crash never tears a length field.

use crate::record::{Mark, RecordKind};
use crc32c::crc32c_append;
use proto::{Entry, EntryKind, varint};

/// The length of the length field and the alignment of frames, in bytes.
pub(crate) const ALIGN: u64 = 8;

/// A parsed length field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// No frame was written here.
    Zero,
    /// The length of the record and of the padding, in bytes.
    Frame { len: u64, pad: u64 },
    /// No writer produces this.
    Malformed,
}

impl Header {
    pub(crate) fn parse(field: u64) -> Header {
        if field == 0 {
            return Header::Zero;
        }
        let len = field & 0x00ff_ffff_ffff_ffff;
        let pad = len.wrapping_neg() % ALIGN;
        let top = if pad == 0 { 0 } else { 0x80 | pad };
        if field >> 56 == top && len > 0 { Header::Frame { len, pad } } else { Header::Malformed }
    }

    fn field(len: u64) -> (u64, usize) {
        match len.wrapping_neg() % ALIGN {
            0 => (len, 0),
            pad => (len | (0x80 | pad) << 56, usize::try_from(pad).unwrap_or_default()),
        }
    }
}

/// Collects the frames of a batch, so that they go to the file in one write.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    buf: Vec<u8>,
    /// The running crc.
    crc: u32,
}

/// The largest buffer that is kept between batches, in bytes.
const BUF_KEPT_MAX: usize = 4 << 20;

impl Encoder {
    pub(crate) fn new(crc: u32) -> Encoder {
        Encoder { buf: Vec::new(), crc }
    }

    /// The running crc.
    pub(crate) fn crc(&self) -> u32 {
        self.crc
    }

    /// The frames since the last [`Encoder::clear`].
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buf
    }

    pub(crate) fn clear(&mut self) {
        self.buf.clear();
        self.buf.shrink_to(BUF_KEPT_MAX);
    }

    /// The first record of a segment: the running crc.
    pub(crate) fn crc_record(&mut self) {
        let crc = self.crc;
        self.frame(RecordKind::Crc, crc, &[], None);
    }

    pub(crate) fn record(&mut self, kind: RecordKind, data: &[u8]) {
        self.crc = crc32c_append(self.crc, data);
        self.frame(kind, self.crc, &[data], None);
    }

    /// The last record of a batch, whose frames begin at `start` of segment `seq`.
    pub(crate) fn last_record(&mut self, kind: RecordKind, data: &[u8], seq: u64, start: u64) {
        self.crc = crc32c_append(self.crc, data);
        let mark = Mark::new(seq, start, start + self.buf.len() as u64, self.crc);
        self.frame(kind, self.crc, &[data], Some(mark));
    }

    /// An entry record. Type, term and index are written even if they are 0, as etcd up to 3.6 does;
    /// empty data is left out.
    pub(crate) fn entry(&mut self, entry: &Entry) {
        let mut head = FieldBuf::new();
        head.byte(0x08);
        head.byte(match entry.kind {
            EntryKind::Normal => 0,
            EntryKind::ConfChange => 1,
            EntryKind::ConfChangeV2 => 2,
        });
        head.byte(0x10);
        head.varint(entry.term.0);
        head.byte(0x18);
        head.varint(entry.index.0);
        if !entry.data.is_empty() {
            head.byte(0x22);
            head.varint(entry.data.len() as u64);
        }
        self.crc = crc32c_append(crc32c_append(self.crc, head.bytes()), &entry.data);
        self.frame(RecordKind::Entry, self.crc, &[head.bytes(), &entry.data], None);
    }

    fn frame(&mut self, kind: RecordKind, crc: u32, data: &[&[u8]], mark: Option<Mark>) {
        let data_len: usize = data.iter().map(|piece| piece.len()).sum();
        let mut head = FieldBuf::new();
        head.byte(0x08);
        head.byte(kind.number());
        head.byte(0x10);
        head.varint(u64::from(crc));
        if kind != RecordKind::Crc {
            head.byte(0x1a);
            head.varint(data_len as u64);
        }
        let len = head.len + data_len + if mark.is_some() { 9 } else { 0 };
        let (field, pad) = Header::field(len as u64);
        self.buf.reserve(8 + len + pad);
        self.buf.extend_from_slice(&field.to_le_bytes());
        self.buf.extend_from_slice(head.bytes());
        for piece in data {
            self.buf.extend_from_slice(piece);
        }
        if let Some(mark) = mark {
            self.buf.push(0x79);
            self.buf.extend_from_slice(&mark.0.to_le_bytes());
        }
        self.buf.extend_from_slice(&[0; 8][..pad]);
    }
}

/// The encoded fields before the data, on the stack.
struct FieldBuf {
    bytes: [u8; 40],
    len: usize,
}

impl FieldBuf {
    fn new() -> FieldBuf {
        FieldBuf { bytes: [0; 40], len: 0 }
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn varint(&mut self, value: u64) {
        self.len += varint::write(&mut self.bytes[self.len..], value);
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;
    use bytes::Bytes;
    use prost::Message as _;
    use proto::{Index, Term};

    #[test]
    fn a_header_is_strict() {
        for len in 1..100 {
            let (field, pad) = Header::field(len);
            assert_eq!((len + pad as u64) % 8, 0);
            assert_eq!(Header::parse(field), Header::Frame { len, pad: pad as u64 });
            for bit in 56..64 {
                assert_eq!(Header::parse(field ^ 1 << bit), Header::Malformed);
            }
        }
        assert_eq!(Header::parse(0), Header::Zero);
        assert_eq!(Header::parse(0x8000_0000_0000_0000), Header::Malformed);
    }

    #[test]
    fn an_entry_has_the_bytes_of_its_message() {
        for (term, index, data) in
            [(0, 0, ""), (1, 127, "x"), (128, 1 << 40, "some data"), (u64::MAX, u64::MAX, "y")]
        {
            for kind in [EntryKind::Normal, EntryKind::ConfChange, EntryKind::ConfChangeV2] {
                let data = Bytes::from_static(data.as_bytes());
                let entry = Entry { term: Term(term), index: Index(index), kind, data };
                let mut encoder = Encoder::new(77);
                encoder.entry(&entry);
                let expected = entry.to_pb().encode_to_vec();
                let bytes = Bytes::copy_from_slice(encoder.bytes());
                let field = u64::from_le_bytes(*bytes.first_chunk().unwrap());
                let Header::Frame { len, pad } = Header::parse(field) else { panic!() };
                assert_eq!(bytes.len() as u64, 8 + len + pad);
                let end = 8 + usize::try_from(len).unwrap();
                let record = Record::parse(&bytes.slice(8..end)).unwrap();
                assert_eq!(record.kind, RecordKind::Entry);
                assert_eq!(record.data, expected);
                assert_eq!(record.crc, crc32c_append(77, &expected));
            }
        }
    }
}

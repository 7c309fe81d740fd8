//! The encoder for header blocks of responses. Only the two fields that every successful call sends
//! enter the dynamic table. All others are literals.
//!
//! Source: RFC 7541 §6.

use super::integer;
use crate::field::{OVERHEAD, STATIC_LEN};

/// The default size of the table, in bytes. We never use more.
const TABLE_DEFAULT: usize = 4_096;
/// The index of `content-type` in the static table.
const CONTENT_TYPE: usize = 31;

/// The fields that enter the table: the static index of the name or 0, name and value.
const KNOWN: [(usize, &[u8], &[u8]); 2] =
    [(CONTENT_TYPE, b"content-type", b"application/grpc"), (0, b"grpc-status", b"0")];

/// Encodes the blocks of one connection.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// The size of the client's table.
    size_max: usize,
    /// The next block must begin with the new size.
    is_resized: bool,
    /// For each field of [`KNOWN`], its position in the order of insertion, from 1.
    places: [Option<usize>; KNOWN.len()],
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder { size_max: TABLE_DEFAULT, is_resized: false, places: [None; KNOWN.len()] }
    }
}

impl Encoder {
    /// Applies the client's setting of the table size.
    pub(crate) fn resize(&mut self, size: usize) {
        self.size_max = size.min(TABLE_DEFAULT);
        self.is_resized = true;
        self.places = [None; KNOWN.len()];
    }

    /// Writes the head of a gRPC response.
    pub(crate) fn grpc_head(&mut self, out: &mut Vec<u8>) {
        self.status(200, out);
        self.known(0, out);
    }

    /// Writes the trailers of a call that succeeded.
    pub(crate) fn grpc_success(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        self.known(1, out);
    }

    /// Begins a block with the status of a response.
    pub(crate) fn status(&mut self, status: u16, out: &mut Vec<u8>) {
        self.begin(out);
        match status {
            200 => out.push(0x88),
            _ => {
                // A literal; index 8 is the name `:status`.
                out.push(8);
                string(status.to_string().as_bytes(), out);
            }
        }
    }

    /// Begins a block without a status.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.is_resized) {
            // Size 0 first, which empties the table.
            integer::write(0, 5, 0x20, out);
            integer::write(self.size_max, 5, 0x20, out);
        }
    }

    /// Writes a field as a literal that does not enter the table.
    pub(crate) fn field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        out.push(0);
        string(name, out);
        string(value, out);
    }

    fn known(&mut self, which: usize, out: &mut Vec<u8>) {
        let inserted = self.places.iter().flatten().count();
        if let Some(place) = self.places[which] {
            return integer::write(STATIC_LEN + 1 + inserted - place, 7, 0x80, out);
        }
        let (number, name, value) = KNOWN[which];
        let all: usize =
            KNOWN.iter().map(|(_, name, value)| name.len() + value.len() + OVERHEAD).sum();
        if self.size_max < all {
            return Encoder::field(name, value, out);
        }
        self.places[which] = Some(inserted + 1);
        integer::write(number, 6, 0x40, out);
        if number == 0 {
            string(name, out);
        }
        string(value, out);
    }
}

/// Writes a string literal.
fn string(bytes: &[u8], out: &mut Vec<u8>) {
    integer::write(bytes.len(), 7, 0, out);
    out.extend_from_slice(bytes);
}

//! HPACK: a decoder for the header blocks of requests, with limits, and an encoder for those of
//! responses.
//!
//! Source: RFC 7541.

mod decoder;
mod encoder;
mod huffman;
mod integer;
mod table;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::Encoder;

//! HPACK: the decoder of requests' header blocks, with limits, and the encoder of responses'.
//!
//! Source: RFC 7541.

mod decoder;
mod encoder;
mod huffman;
mod integer;
mod table;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::Encoder;

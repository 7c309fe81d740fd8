//! Decompresses the messages of requests that use gzip. Compressed responses are in
//! [`crate::compressed`].
//!
//! Source: gRPC over HTTP/2 (grpc.io doc/compression.md); the messages of errors are those of grpc-go
//! 1.82.

use crate::Status;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, HeaderName};
use std::io::Read as _;
use tonic::Code;

/// The header that names the compression of the messages.
pub(crate) const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Whether the messages of a request with these headers may be compressed with gzip.
#[must_use]
pub fn is_gzip(headers: &HeaderMap) -> bool {
    headers.get(ENCODING).is_some_and(|encoding| encoding == "gzip")
}

/// Decompresses a message of at most `max` bytes.
///
/// # Errors
/// When the message is longer, or the bytes are not valid gzip.
pub(crate) fn decompressed(bytes: &[u8], max: usize) -> Result<Bytes, Status> {
    let mut message = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut message).map_err(|error| {
        let why = format!("grpc: failed to decompress the received message: {error}");
        Status::new(Code::Internal, why)
    })?;
    if message.len() > max {
        let why = format!("grpc: message after decompression larger than max {max}");
        return Err(Status::new(Code::ResourceExhausted, why));
    }
    Ok(message.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    #[test]
    fn bytes_that_are_not_gzips_are_refused() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"message").unwrap();
        let whole = encoder.finish().unwrap();
        assert_eq!(decompressed(&whole, 7).unwrap(), "message");
        for bytes in [&b"garbage"[..], &[], &whole[..whole.len() - 1]] {
            let status = decompressed(bytes, 100).unwrap_err();
            assert_eq!(status.code, Code::Internal);
            let beginning = "grpc: failed to decompress the received message";
            assert!(status.message.starts_with(beginning), "{}", status.message);
        }
    }
}

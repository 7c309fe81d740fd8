//! The status of a call, its form in headers and trailers, and the `grpc-timeout` header. Not here:
//! etcd's own errors (see [`Error`]).
//!
//! Source: gRPC over HTTP/2 (grpc.io doc/PROTOCOL-HTTP2.md); the messages of errors are those of
//! grpc-go 1.82.

use crate::error::Error;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::borrow::Cow;
use std::time::Duration;
use tonic::Code;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The status that a call ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The code; [`Code::Ok`] is success.
    pub code: Code,
    /// The error message; clients compare it.
    pub message: Cow<'static, str>,
}

impl Status {
    /// Success.
    pub const OK: Status = Status { code: Code::Ok, message: Cow::Borrowed("") };

    /// A status of this code and message.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Status {
        Status { code, message: message.into() }
    }

    /// The deadline of the call has passed.
    #[must_use]
    pub fn deadline_exceeded() -> Status {
        Status::new(Code::DeadlineExceeded, "context deadline exceeded")
    }

    /// Puts the status into headers or trailers.
    pub fn put(&self, headers: &mut HeaderMap) {
        headers.insert(GRPC_STATUS, code_value(self.code));
        if self.message.is_empty() {
            return;
        }
        if let Ok(value) = HeaderValue::from_str(&percent_encoded(&self.message)) {
            headers.insert(GRPC_MESSAGE, value);
        }
    }

    /// The status in headers or trailers, as [`Status::put`] writes it. Without one the code is
    /// Unknown.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Status {
        match tonic::Status::from_header_map(headers) {
            Some(status) => Status::new(status.code(), status.message().to_owned()),
            None => Status::new(Code::Unknown, "no status was received"),
        }
    }

    /// The status as trailers.
    #[must_use]
    pub fn to_trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(2);
        self.put(&mut trailers);
        trailers
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        Status::new(error.wire_code(), error.text())
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rpc error: code = {} desc = {}", code_name(self.code), self.message)
    }
}

impl std::error::Error for Status {}

/// The code as Go's gRPC writes it.
#[must_use]
pub fn code_name(code: Code) -> String {
    // tonic spells it differently.
    if code == Code::Cancelled { "Canceled".to_owned() } else { format!("{code:?}") }
}

fn code_value(code: Code) -> HeaderValue {
    HeaderValue::from_static(match code {
        Code::Ok => "0",
        Code::Cancelled => "1",
        Code::Unknown => "2",
        Code::InvalidArgument => "3",
        Code::DeadlineExceeded => "4",
        Code::NotFound => "5",
        Code::AlreadyExists => "6",
        Code::PermissionDenied => "7",
        Code::ResourceExhausted => "8",
        Code::FailedPrecondition => "9",
        Code::Aborted => "10",
        Code::OutOfRange => "11",
        Code::Unimplemented => "12",
        Code::Internal => "13",
        Code::Unavailable => "14",
        Code::DataLoss => "15",
        Code::Unauthenticated => "16",
    })
}

/// The message as `grpc-message` carries it: everything but printable ASCII, and `%` itself, as
/// `%XX`.
#[must_use]
pub fn percent_encoded(message: &str) -> Cow<'_, str> {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
    if message.bytes().all(plain) {
        return Cow::Borrowed(message);
    }
    let mut encoded = String::with_capacity(message.len() + 16);
    for byte in message.bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    Cow::Owned(encoded)
}

/// The timeout of a call from its `grpc-timeout` header; `None` if it has none.
///
/// # Errors
/// When the header is not at most eight digits and one unit.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let value = value.as_bytes();
    let text = || go_quoted(value);
    let malformed =
        |why: String| Status::new(Code::Internal, format!("malformed grpc-timeout: {why}"));
    let Some((unit, digits)) = value.split_last().filter(|(_, digits)| !digits.is_empty()) else {
        return Err(malformed(format!("transport: timeout string is too short: {}", text())));
    };
    if digits.len() > 8 {
        return Err(malformed(format!("transport: timeout string is too long: {}", text())));
    }
    let nanos_per_unit: u64 = match unit {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1_000,
        b'n' => 1,
        _ => {
            let why = format!("transport: timeout unit is not recognized: {}", text());
            return Err(malformed(why));
        }
    };
    let number = if digits.iter().all(u8::is_ascii_digit) {
        std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok())
    } else {
        None
    };
    let Some(number) = number else {
        let digits = go_quoted(digits);
        return Err(malformed(format!("strconv.ParseUint: parsing {digits}: invalid syntax")));
    };
    // Eight digits of hours overflow Go's duration; grpc-go then uses the longest duration.
    let nanos = number.saturating_mul(nanos_per_unit).min(i64::MAX.unsigned_abs());
    Ok(Some(Duration::from_nanos(nanos)))
}

/// Text in double quotes as Go's `%q` prints it: ASCII controls and invalid UTF-8 escaped.
#[must_use]
pub fn go_quoted(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut quoted = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                '\t' => quoted.push_str("\\t"),
                control if control.is_ascii_control() => {
                    // Writing to a String cannot fail.
                    write!(quoted, "\\x{:02x}", u32::from(control)).unwrap_or_default();
                }
                other => quoted.push(other),
            }
        }
        for byte in chunk.invalid() {
            write!(quoted, "\\x{byte:02x}").unwrap_or_default();
        }
    }
    quoted.push('"');
    quoted
}

impl Error {
    /// The line that Go's gRPC prints for the status. A watch's `cancel_reason` has it when
    /// permission is denied.
    #[must_use]
    pub fn go_text(self) -> String {
        Status::from(self).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_encoded("etcdserver: no leader"), "etcdserver: no leader");
        assert_eq!(percent_encoded("100% ü\n~"), "100%25 %C3%BC%0A~");
    }

    #[test]
    fn a_success_has_no_message() {
        let trailers = Status::OK.to_trailers();
        assert_eq!(trailers.len(), 1);
        assert_eq!(trailers["grpc-status"], "0");
        let trailers = Status::from(Error::TooManyRequests).to_trailers();
        assert_eq!(trailers["grpc-status"], "2");
        assert_eq!(trailers["grpc-message"], "etcdserver: too many requests");
    }

    #[test]
    fn a_status_is_read_as_it_was_written() {
        for status in [
            Status::OK,
            Status::from(Error::Compacted),
            Status::new(Code::Unauthenticated, "100% ü\n"),
        ] {
            assert_eq!(Status::from_headers(&status.to_trailers()), status);
        }
        assert_eq!(Status::from_headers(&HeaderMap::new()).code, Code::Unknown);
    }

    #[test]
    fn codes_are_their_numbers() {
        for number in 0..=16 {
            let code = Code::from(number);
            assert_eq!(code_value(code), number.to_string());
        }
    }

    fn parse(value: &[u8]) -> Result<Option<Duration>, String> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", HeaderValue::from_bytes(value).unwrap());
        timeout(&headers).map_err(|status| status.message.into_owned())
    }

    #[test]
    fn timeouts_are_read_as_grpc_go_reads_them() {
        assert_eq!(timeout(&HeaderMap::new()), Ok(None));
        assert_eq!(parse(b"5S"), Ok(Some(Duration::from_secs(5))));
        assert_eq!(parse(b"4999994u"), Ok(Some(Duration::from_micros(4_999_994))));
        assert_eq!(parse(b"99999999H"), Ok(Some(Duration::from_nanos(i64::MAX.unsigned_abs()))));
        for (value, why) in [
            (&b"S"[..], "transport: timeout string is too short: \"S\""),
            (b"", "transport: timeout string is too short: \"\""),
            (b"123456789S", "transport: timeout string is too long: \"123456789S\""),
            (b"5x", "transport: timeout unit is not recognized: \"5x\""),
            (b"-5S", "strconv.ParseUint: parsing \"-5\": invalid syntax"),
            (b"\xff5S", "strconv.ParseUint: parsing \"\\xff5\": invalid syntax"),
        ] {
            assert_eq!(parse(value), Err(format!("malformed grpc-timeout: {why}")));
        }
    }
}

//! The trace that a client's metadata names, and new ids.
//!
//! Source: W3C Trace Context, Level 1, §3.2.

use http::HeaderMap;
use rand::rngs::SmallRng;
use rand::{RngCore as _, SeedableRng as _};
use std::cell::RefCell;

thread_local! {
    static IDS: RefCell<SmallRng> = RefCell::new(SmallRng::from_os_rng());
}

/// A new id.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut id = [0; N];
    // An id of zeros is not valid.
    while id == [0; N] {
        IDS.with_borrow_mut(|ids| ids.fill_bytes(&mut id));
    }
    id
}

/// The client's span that a call continues.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RemoteContext {
    pub(super) trace: [u8; 16],
    pub(super) span: [u8; 8],
    /// Whether the client records the trace.
    pub(super) is_recorded: bool,
    /// The header `tracestate`.
    pub(super) state: String,
}

impl RemoteContext {
    /// Reads `traceparent` and `tracestate`; `None` if there is no valid trace.
    pub(super) fn of(headers: &HeaderMap) -> Option<RemoteContext> {
        let mut remote = parse(headers.get("traceparent")?.to_str().ok()?)?;
        let states = headers.get_all("tracestate").iter().filter_map(|state| state.to_str().ok());
        remote.state = states.collect::<Vec<_>>().join(",");
        Some(remote)
    }
}

/// Reads `VERSION-TRACE-SPAN-FLAGS`. A later version may have more behind it.
fn parse(text: &str) -> Option<RemoteContext> {
    let mut parts = text.trim().splitn(5, '-');
    let [version] = hex(parts.next()?)?;
    let (trace, span) = (hex(parts.next()?)?, hex(parts.next()?)?);
    let [flags]: [u8; 1] = hex(parts.next()?)?;
    let has_more = parts.next().is_some();
    let is_valid = version != 0xff && trace != [0; 16] && span != [0; 8];
    let is_recorded = flags & 1 == 1;
    let context = RemoteContext { trace, span, is_recorded, state: String::new() };
    (is_valid && (version != 0 || !has_more)).then_some(context)
}

/// Bytes from exactly twice as many lower-case digits.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    let is_hex = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 2 * N || !digits.iter().all(is_hex) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0102030405060708090a0b0c0d0e0f10";
    const SPAN: &str = "1112131415161718";

    #[test]
    fn valid_headers_are_read() {
        let first = parse(&format!("00-{TRACE}-{SPAN}-01")).unwrap();
        assert_eq!((first.trace[15], first.span[0], first.is_recorded), (0x10, 0x11, true));
        assert!(!parse(&format!("00-{TRACE}-{SPAN}-02")).unwrap().is_recorded);
        let later = parse(&format!("01-{TRACE}-{SPAN}-01-more-fields"));
        assert_eq!(later, Some(first));
    }

    #[test]
    fn headers_that_are_not_valid_are_no_trace() {
        for text in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}0-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-+1"),
        ] {
            assert_eq!(parse(&text), None, "{text}");
        }
    }
}

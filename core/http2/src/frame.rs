//! Frames: their heads, kinds and flags, and the codes of errors.
//!
//! Source: RFC 9113 §4.1, §6, §7.

/// The length of a frame's head in bytes.
pub(crate) const HEAD_LEN: usize = 9;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// A flag of DATA and HEADERS.
pub(crate) const END_STREAM: u8 = 1;
/// A flag of SETTINGS and PING.
pub(crate) const ACK: u8 = 1;
/// A flag of HEADERS and CONTINUATION.
pub(crate) const END_HEADERS: u8 = 4;
/// A flag of DATA and HEADERS.
pub(crate) const PADDED: u8 = 8;
/// A flag of HEADERS: the payload begins with five bytes of priority.
pub(crate) const HAS_PRIORITY: u8 = 0x20;

/// Why a stream or a connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub u32);

impl Reason {
    /// No error.
    pub const NO_ERROR: Reason = Reason(0);
    /// A rule of the protocol was broken.
    pub const PROTOCOL_ERROR: Reason = Reason(1);
    /// The sender's own mistake.
    pub const INTERNAL_ERROR: Reason = Reason(2);
    /// More data than the window has room for.
    pub const FLOW_CONTROL_ERROR: Reason = Reason(3);
    /// A frame for a stream that is closed.
    pub const STREAM_CLOSED: Reason = Reason(5);
    /// A frame of a wrong length.
    pub const FRAME_SIZE_ERROR: Reason = Reason(6);
    /// The stream was not processed.
    pub const REFUSED_STREAM: Reason = Reason(7);
    /// The stream is no longer needed.
    pub const CANCEL: Reason = Reason(8);
    /// A header block is not HPACK.
    pub const COMPRESSION_ERROR: Reason = Reason(9);
    /// The peer causes too much load.
    pub const ENHANCE_YOUR_CALM: Reason = Reason(11);

    /// The name in RFC 9113.
    #[must_use]
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        NAMES.get(self.0 as usize).copied().unwrap_or("an unknown code")
    }
}

impl std::fmt::Debug for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameHead {
    pub(crate) len: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl FrameHead {
    /// Reads a head; `None` if there are too few bytes.
    pub(crate) fn read(bytes: &[u8]) -> Option<FrameHead> {
        let [a, b, c, kind, flags, stream @ ..] = *bytes.first_chunk::<HEAD_LEN>()?;
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        Some(FrameHead { len, kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff })
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends the head of a frame.
pub(crate) fn write_head(len: usize, kind: u8, flags: u8, stream: u32, out: &mut Vec<u8>) {
    let [_, a, b, c] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, d, e, f, g]);
}

/// Appends a frame.
pub(crate) fn write(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    write_head(payload.len(), kind, flags, stream, out);
    out.extend_from_slice(payload);
}

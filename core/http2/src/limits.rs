//! What a client may cost, and the windows that it gets.

/// The limits of a connection.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Streams that are open at a time. A further one is refused with REFUSED_STREAM.
    pub streams_max: u32,
    /// The window of each stream, in bytes.
    pub stream_window: u32,
    /// The window of the connection, in bytes; at least 65,535.
    pub connection_window: u32,
    /// The longest frame that a client may send, in bytes; 16,384 to 16,777,215.
    pub frame_max: u32,
    /// The header list of a request, by RFC 9113's count. A request with more gets the status 431.
    pub headers_max: u32,
    /// A response's data is not written while this many bytes wait for the socket.
    pub unsent_max: usize,
}

/// A header block, compressed, in bytes of all its frames. A longer one ends the connection.
pub const BLOCK_MAX: usize = 1 << 20;

/// Frames that bring nothing, in [`PERIOD_MS`]: PING, SETTINGS, PRIORITY, frames without content,
/// windows opened by a few bytes, frames for streams that are closed. More of them end the
/// connection with ENHANCE_YOUR_CALM.
pub const USELESS_MAX: u32 = 10_000;
/// Streams that the client resets before they are answered, or that are reset for its mistakes, in
/// [`PERIOD_MS`]. More of them end the
/// connection with ENHANCE_YOUR_CALM.
pub const RESETS_MAX: u32 = 5_000;
/// The period in which these are counted, in milliseconds.
pub const PERIOD_MS: u64 = 1_000;

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            streams_max: u32::MAX,
            stream_window: 1024 * 1024,
            connection_window: 4 * 1024 * 1024,
            frame_max: 64 * 1024,
            headers_max: 256 * 1024,
            unsent_max: 64 * 1024,
        }
    }
}

/// Counts what a client does within a period.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    began_ms: u64,
    count: u32,
}

impl Rate {
    /// Counts one; false if that is more than `max` in this period.
    pub(crate) fn count(&mut self, now_ms: u64, max: u32) -> bool {
        if now_ms.saturating_sub(self.began_ms) >= PERIOD_MS {
            *self = Rate { began_ms: now_ms, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count <= max
    }
}

//! The limits of a client, and the windows that it gets.

/// The limits of a connection.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The maximum number of open streams. A further one is refused with REFUSED_STREAM.
    pub streams_max: u32,
    /// The window of each stream, in bytes.
    pub stream_window: u32,
    /// The window of the connection, in bytes; at least 65,535.
    pub connection_window: u32,
    /// The longest frame that a client may send, in bytes; 16,384 to 16,777,215.
    pub frame_max: u32,
    /// The size of a request's header list, counted as in RFC 9113. A larger one gets the status
    /// 431.
    pub headers_max: u32,
    /// A response's data is not written while this many bytes wait for the socket.
    pub unsent_max: usize,
}

/// The size of a compressed header block with all its frames, in bytes. A longer one ends the
/// connection.
pub const BLOCK_MAX: usize = 1 << 20;

/// The number of useless frames in [`PERIOD_MS`]: PING, SETTINGS, PRIORITY, frames without content,
/// small window updates, frames for closed streams. More of them end the connection with
/// ENHANCE_YOUR_CALM.
pub const USELESS_MAX: u32 = 10_000;
/// The number of streams in [`PERIOD_MS`] that the client resets before they are answered, or that
/// are reset because of its mistakes. More of them end the connection with ENHANCE_YOUR_CALM.
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

/// Counts actions of a client within a period.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    began_ms: u64,
    count: u32,
}

impl Rate {
    /// Counts one action. Returns false if that is more than `max` in this period.
    pub(crate) fn count(&mut self, now_ms: u64, max: u32) -> bool {
        if now_ms.saturating_sub(self.began_ms) >= PERIOD_MS {
            *self = Rate { began_ms: now_ms, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count <= max
    }
}

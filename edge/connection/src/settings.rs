//! What the operator decides for the connections of clients.

use std::time::Duration;

/// What a client may do, as far as the operator decides. The other limits are those of
/// [`http2::Limits`] and [`net::limits`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// Streams of a connection that are open at a time.
    pub streams_max: u32,
    /// After how much silence a client is asked whether it is there, and the time for its answer.
    /// `None` to ask nobody.
    pub pings: Option<(Duration, Duration)>,
}

//! The settings of client connections.

use http2::RefusedRequest;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// The limits of a client that the operator sets, and the callback for refused requests. The other
/// limits are in [`http2::Limits`] and [`net::limits`].
#[derive(Clone)]
pub struct Settings {
    /// The maximum number of open streams of a connection.
    pub streams_max: u32,
    /// The time of silence after which a client is pinged, and the time that it has to answer.
    /// `None` to send no pings.
    pub pings: Option<(Duration, Duration)>,
    /// Called for each refused request.
    pub refused: Rc<dyn Fn(RefusedRequest)>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { streams_max, pings, .. } = self;
        let mut settings = f.debug_struct("Settings");
        settings.field("streams_max", streams_max).field("pings", pings).finish_non_exhaustive()
    }
}

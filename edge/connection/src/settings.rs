//! What the operator decides for the connections of clients.

use http2::RefusedRequest;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// What a client may do, as far as the operator decides, and who counts what is refused. The other
/// limits are those of [`http2::Limits`] and [`net::limits`].
#[derive(Clone)]
pub struct Settings {
    /// Streams of a connection that are open at a time.
    pub streams_max: u32,
    /// After how much silence a client is asked whether it is there, and the time for its answer.
    /// `None` to ask nobody.
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

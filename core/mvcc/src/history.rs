//! The changes of the past in order, for watchers that are behind.

use crate::error::Error;
use crate::event::Event;
use backend::{Bucket, Cursor, ReadView};
use proto::Revision;

/// Revisions up to which a history is read through the page cache, with the page at hand, and
/// not ahead and past it.
const SHORT: i64 = 1_000;

/// A position in the history. It holds its snapshot: not for longer than needed.
#[derive(Debug)]
pub struct History {
    cursor: Cursor,
    to: i64,
}

impl History {
    pub(crate) fn new(read: &ReadView, from: i64, to: i64) -> Result<History, Error> {
        let first = Revision { main: from.max(0), sub: 0 };
        let cached = to.saturating_sub(from) <= SHORT;
        let cursor = read.cursor(Bucket::Key, &first.to_bytes(), cached)?;
        Ok(History { cursor, to })
    }

    fn read(&mut self) -> Result<Option<Event>, Error> {
        let Some((key, value)) = self.cursor.next().transpose()? else { return Ok(None) };
        let (revision, event) = Event::of_stored(&key, value)?;
        Ok((revision.main <= self.to).then_some(event))
    }
}

/// The changes, waiting for the disk. They share memory with a page or a larger piece of the
/// file: copy what is kept. An error is that of reading the file.
impl Iterator for History {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

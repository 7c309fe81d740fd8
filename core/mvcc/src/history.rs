//! Past changes in order of revision, for watchers that are behind.

use crate::error::Error;
use crate::event::Event;
use backend::{Bucket, BucketCursor, ReadView};
use proto::Revision;

/// Histories of up to this many revisions are read through the page cache; longer ones are read
/// ahead and bypass it.
const SHORT: i64 = 1_000;

/// A cursor over past changes. It holds a snapshot of the file, so it should be dropped soon.
#[derive(Debug)]
pub struct HistoryCursor {
    cursor: BucketCursor,
    to: i64,
}

impl HistoryCursor {
    pub(crate) fn new(read: &ReadView, from: i64, to: i64) -> Result<HistoryCursor, Error> {
        let first = Revision { main: from.max(0), sub: 0 };
        let cached = to.saturating_sub(from) <= SHORT;
        let cursor = read.cursor(Bucket::Key, &first.to_bytes(), cached)?;
        Ok(HistoryCursor { cursor, to })
    }

    fn read(&mut self) -> Result<Option<Event>, Error> {
        let Some((key, value)) = self.cursor.next().transpose()? else { return Ok(None) };
        let (revision, event) = Event::of_stored(&key, value)?;
        Ok((revision.main <= self.to).then_some(event))
    }
}

/// Yields the changes, waiting for the disk. They share the memory of a page or of a larger chunk
/// of the file: copy those that are kept. An error is an error of reading the file.
impl Iterator for HistoryCursor {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

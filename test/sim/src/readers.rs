//! Readers beside the member. Each holds a moment and reads all its keys, a piece at a time, while
//! the member applies, commits, compacts and shrinks its file. It must read exactly the state of
//! its moment.

use crate::driver::Driver;
use crate::history::History;
use crate::seed::Seed;
use auth::Caller;
use bytes::Bytes;
use mvcc::{KeyRange, RangeCursor, RangeQuery, Step, Wait};
use proto::Index;

/// The maximum number of readers at once.
const READERS_MAX: usize = 6;

/// One reader.
#[derive(Debug)]
struct Reader {
    applied: Index,
    cursor: RangeCursor,
    read: Vec<Bytes>,
}

/// The readers of a member, between two starts.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    readers: Vec<Reader>,
    /// The number of readers that have read everything.
    pub(crate) finished: u64,
    /// How many of them read across a commit of the file.
    pub(crate) across_commits: u64,
    began_at: Vec<Index>,
}

impl Readers {
    /// Drops the readers when the process has ended.
    pub(crate) fn end(&mut self) {
        self.readers.clear();
        self.began_at.clear();
    }

    /// Begins a reader, or lets one read a piece.
    ///
    /// # Errors
    /// When a reader has read other data than its moment has.
    pub(crate) fn step(
        &mut self,
        driver: &Driver,
        history: &History,
        seed: &mut Seed,
    ) -> Result<(), String> {
        if self.readers.len() < READERS_MAX && seed.one_in(20) {
            self.begin(driver)?;
        } else if !self.readers.is_empty() && seed.one_in(2) {
            let place = seed.place(self.readers.len());
            self.read(place, driver, history, seed)?;
        }
        Ok(())
    }

    fn begin(&mut self, driver: &Driver) -> Result<(), String> {
        let published = driver.published();
        let all = RangeQuery::of(KeyRange::Span { from: Bytes::new(), end: None });
        let all = published.auth.permit(&Caller::default(), all);
        let all = all.map_err(|denied| format!("a reader: {denied}"))?;
        let cursor = published.view.range(&all).map_err(|error| format!("a reader: {error:?}"))?;
        self.readers.push(Reader { applied: published.applied.index, cursor, read: Vec::new() });
        self.began_at.push(driver.in_file());
        Ok(())
    }

    fn read(
        &mut self,
        place: usize,
        driver: &Driver,
        history: &History,
        seed: &mut Seed,
    ) -> Result<(), String> {
        let reader = &mut self.readers[place];
        for _ in 0..=seed.below(8) {
            let step = reader.cursor.next(Wait::Yes);
            match step.map_err(|error| format!("a reader at {}: {error}", reader.applied))? {
                Step::Item(item) => reader.read.push(item),
                Step::End => return self.finish(place, driver, history),
                Step::NeedsDisk | Step::Yield => {}
            }
        }
        Ok(())
    }

    fn finish(&mut self, place: usize, driver: &Driver, history: &History) -> Result<(), String> {
        let Reader { applied, read, .. } = self.readers.swap_remove(place);
        let began_at = self.began_at.swap_remove(place);
        let start;
        let expected = match history.after(applied) {
            Some((_, expected)) => expected,
            None => {
                start = history.start();
                &start.1
            }
        };
        if read != expected.live {
            return Err(format!(
                "a reader of the moment after entry {applied} read {} keys, not the {} there were",
                read.len(),
                expected.live.len()
            ));
        }
        self.finished += 1;
        self.across_commits += u64::from(driver.in_file() > began_at);
        Ok(())
    }
}

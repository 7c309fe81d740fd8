//! Reading a range, one key-value after the other, so that a reader can stop and go on: when a
//! page is not in memory, when it has worked long enough, when the client is slow.

use crate::error::{Error, Reject};
use crate::index::{Entry, Index, Stored, Walk};
use crate::kv::KeyValue;
use crate::range::RangeQuery;
use auth::KeyRange;
use backend::{Lookup, VersionReader};
use bytes::Bytes;

/// Keys after which a cursor yields.
pub(crate) const YIELD_KEYS: usize = 1_000;
/// Bytes after which a cursor yields.
pub(crate) const YIELD_BYTES: usize = 256 * 1024;

/// Whether a call may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It may.
    Yes,
    /// It may not: only for readers in a pool of their own may it.
    No,
}

/// What a cursor has next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An encoded `mvccpb.KeyValue`.
    Item(Bytes),
    /// The next item is not in memory: ask again where waiting is allowed.
    NeedsDisk,
    /// It has worked for a while: let others work, and ask again.
    Yield,
    /// There are no more.
    End,
}

/// What is known of an answer's size before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// The bytes of all items as fields of a `RangeResponse`: tag, length, encoding.
    Bytes(u64),
    /// It has worked for a while: let others work, and ask again.
    Yield,
    /// The index does not know: the items have to be read.
    Unknown,
}

/// Newest versions as seen from some revision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    /// The main revision.
    pub(crate) revision: i64,
    /// Whether it is that of the newest change in the index, so that heads and sums hold.
    pub(crate) is_newest: bool,
}

/// A range being read from the index; where values come from is the caller's business.
#[derive(Debug)]
pub(crate) struct Ranging {
    source: Source,
    at: At,
    keys_only: bool,
    /// Items that may still be yielded.
    left: u64,
    /// How many keys are in the range, as far as counted.
    count: u64,
    counting: Option<Walk>,
    measuring: Option<(Source, u64, u64)>,
    /// The bytes of all items, if the index's sums say it.
    framed: Option<u64>,
    spent_keys: usize,
    spent_bytes: usize,
}

#[derive(Clone, Debug)]
enum Source {
    One(Option<Found>),
    Walk(Walk),
}

/// A version that is to be read.
#[derive(Clone, Debug)]
struct Found {
    stored: Stored,
    /// The encoding without value and lease, where it was asked for and the index knows it.
    keys_only: Option<Bytes>,
}

impl At {
    fn live(self, entry: &Entry<'_>) -> Option<Stored> {
        if self.is_newest {
            entry.head.is_live().then_some(entry.head.at)
        } else {
            entry.live_at(self.revision)
        }
    }

    fn find(self, entry: &Entry<'_>, keys_only: bool) -> Option<Found> {
        let stored = self.live(entry)?;
        let from_index = keys_only && stored == entry.head.at;
        let keys_only = from_index.then(|| keys_only_of(entry).to_bytes());
        Some(Found { stored, keys_only })
    }
}

fn keys_only_of<'a>(entry: &Entry<'a>) -> KeyValue<'a> {
    KeyValue {
        key: entry.key,
        create_revision: entry.head.create,
        mod_revision: entry.head.at.main(),
        version: entry.head.version,
        ..KeyValue::default()
    }
}

impl Source {
    fn new(index: &Index, keys: &KeyRange, at: At, keys_only: bool) -> Source {
        match keys {
            KeyRange::One(key) => {
                Source::One(index.get(key).and_then(|entry| at.find(&entry, keys_only)))
            }
            KeyRange::Span { from, end } => Source::Walk(Walk::new(index, from, end.clone())),
        }
    }

    fn advance(&mut self) {
        match self {
            Source::One(found) => *found = None,
            Source::Walk(walk) => walk.advance(),
        }
    }
}

impl Ranging {
    pub(crate) fn new(index: &Index, query: &RangeQuery, at: At) -> Ranging {
        let keys_only = query.keys_only;
        let limit = Some(query.limit).filter(|limit| *limit > 0);
        let source = Source::new(index, &query.keys, at, keys_only);
        let (count, counting, framed) = match (&query.keys, &source) {
            (KeyRange::Span { from, end }, _) if at.is_newest => {
                let sum = index.sum_of(from, end.as_deref());
                (sum.live, None, (!keys_only).then_some(sum.framed))
            }
            (_, Source::One(found)) => (u64::from(found.is_some()), None, None),
            (_, Source::Walk(walk)) => (0, Some(walk.clone()), None),
        };
        let left = if query.count_only { 0 } else { limit.unwrap_or(u64::MAX) };
        let all = limit.is_none_or(|limit| count <= limit);
        Ranging {
            source,
            at,
            keys_only,
            left,
            count,
            counting,
            measuring: None,
            framed: if query.count_only { Some(0) } else { framed.filter(|_| all) },
            spent_keys: 0,
            spent_bytes: 0,
        }
    }

    pub(crate) fn count(&self) -> Option<u64> {
        self.counting.is_none().then_some(self.count)
    }

    /// Counts on for a while; true when the range is counted.
    fn has_counted(&mut self) -> bool {
        let Some(walk) = &mut self.counting else { return true };
        for _ in 0..YIELD_KEYS {
            let Some(entry) = walk.entry() else {
                self.counting = None;
                return true;
            };
            self.count += u64::from(self.at.live(&entry).is_some());
            walk.advance();
        }
        false
    }

    /// How many bytes the items that are still to come take in an answer.
    pub(crate) fn size(&mut self) -> Size {
        if let Some(framed) = self.framed {
            return Size::Bytes(framed);
        }
        let (mut source, mut left, mut total) =
            self.measuring.take().unwrap_or_else(|| (self.source.clone(), self.left, 0));
        for _ in 0..YIELD_KEYS {
            let item = match &source {
                _ if left == 0 => None,
                Source::One(found) => {
                    found.as_ref().map(|found| (Some(found.stored), found.keys_only.clone()))
                }
                Source::Walk(walk) => walk.entry().map(|entry| {
                    let found = self.at.find(&entry, self.keys_only);
                    let keys_only = found.as_ref().and_then(|found| found.keys_only.clone());
                    (found.map(|found| found.stored), keys_only)
                }),
            };
            match item {
                None => {
                    self.framed = Some(total);
                    return Size::Bytes(total);
                }
                Some((None, _)) => {}
                Some((Some(_), None)) if self.keys_only => return Size::Unknown,
                Some((Some(stored), keys_only)) => {
                    left -= 1;
                    total += match keys_only {
                        None => stored.framed_len(),
                        Some(kv) => (1 + prost::length_delimiter_len(kv.len()) + kv.len()) as u64,
                    };
                }
            }
            source.advance();
        }
        self.measuring = Some((source, left, total));
        Size::Yield
    }

    /// The next item, its value from `fetch`.
    pub(crate) fn next(
        &mut self,
        fetch: &mut dyn FnMut(Stored) -> Result<Lookup, Error>,
    ) -> Result<Step, Error> {
        if !self.has_counted() {
            return Ok(Step::Yield);
        }
        while self.left > 0 {
            if self.spent_keys >= YIELD_KEYS || self.spent_bytes >= YIELD_BYTES {
                (self.spent_keys, self.spent_bytes) = (0, 0);
                return Ok(Step::Yield);
            }
            let found = match &self.source {
                Source::One(found) => found.clone(),
                Source::Walk(walk) => {
                    let Some(entry) = walk.entry() else { break };
                    self.at.find(&entry, self.keys_only)
                }
            };
            self.spent_keys += 1;
            if let Some(found) = found {
                let Some(item) = self.read(&found, fetch)? else { return Ok(Step::NeedsDisk) };
                self.source.advance();
                self.left -= 1;
                self.spent_bytes += item.len();
                return Ok(Step::Item(item));
            }
            if matches!(self.source, Source::One(_)) {
                break;
            }
            self.source.advance();
        }
        Ok(Step::End)
    }

    fn read(
        &self,
        found: &Found,
        fetch: &mut dyn FnMut(Stored) -> Result<Lookup, Error>,
    ) -> Result<Option<Bytes>, Error> {
        if let Some(item) = &found.keys_only {
            return Ok(Some(item.clone()));
        }
        let value = match fetch(found.stored)? {
            Lookup::Found(value) => value,
            Lookup::NeedsDisk => return Ok(None),
            Lookup::Missing => return Err(missing(found.stored)),
        };
        if !self.keys_only {
            return Ok(Some(value));
        }
        let kv = decode(&value)?;
        Ok(Some(KeyValue { value: b"", lease: 0, ..kv }.to_bytes()))
    }
}

/// The error of a version that the index has and the file has not.
pub(crate) fn missing(stored: Stored) -> Error {
    Error::corrupt("a version is missing in the bucket `key`", &stored.revision().to_bytes())
}

pub(crate) fn decode(value: &[u8]) -> Result<KeyValue<'_>, Error> {
    KeyValue::decode(value).map_err(|_| {
        Error::corrupt("a stored value is not a key-value", value.get(..64).unwrap_or(value))
    })
}

/// The revision at which a reader reads who asks for `revision`.
pub(crate) fn resolve(revision: i64, current: i64, compacted: i64) -> Result<At, Reject> {
    if revision > current {
        return Err(Reject::FutureRevision);
    }
    let revision = if revision <= 0 { current } else { revision };
    if revision < compacted {
        return Err(Reject::Compacted);
    }
    Ok(At { revision, is_newest: revision == current })
}

/// A range being read from a view. It holds the view's snapshot, and with it the pages that the
/// snapshot can reach.
#[derive(Debug)]
pub struct RangeCursor {
    ranging: Ranging,
    reader: VersionReader,
}

impl RangeCursor {
    pub(crate) fn new(index: &Index, reader: VersionReader, query: &RangeQuery, at: At) -> Self {
        RangeCursor { ranging: Ranging::new(index, query, at), reader }
    }

    /// The next item, in order of key.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next(&mut self, wait: Wait) -> Result<Step, Error> {
        let reader = &mut self.reader;
        self.ranging.next(&mut |stored| fetch(reader, stored, wait))
    }

    /// How many keys the range has, the limit left aside. Known at once at the current revision,
    /// at others with the first item or the end.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        self.ranging.count()
    }

    /// How many bytes the items take in the answer. To be asked before the first item.
    pub fn size(&mut self) -> Size {
        self.ranging.size()
    }

    /// Reads all that is left, waiting for the disk; returns the items and the count.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read_all(mut self) -> Result<(Vec<Bytes>, u64), Error> {
        let mut items = Vec::new();
        loop {
            match self.next(Wait::Yes)? {
                Step::Item(item) => items.push(item),
                Step::Yield | Step::NeedsDisk => {}
                Step::End => return Ok((items, self.count().unwrap_or_default())),
            }
        }
    }
}

/// The value of a version that is live somewhere.
pub(crate) fn fetch(
    reader: &mut VersionReader,
    stored: Stored,
    wait: Wait,
) -> Result<Lookup, Error> {
    Ok(match wait {
        Wait::No => reader.try_put(stored.revision())?,
        Wait::Yes => reader.put(stored.revision())?.map_or(Lookup::Missing, Lookup::Found),
    })
}

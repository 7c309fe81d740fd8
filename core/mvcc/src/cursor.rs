//! A range read, one key-value at a time. The reader can stop and continue: when a page is not in
//! memory, after a while of work, or when the client is slow.

use crate::error::{Error, RequestError};
use crate::index::{Index, KeyEntry, StoredVersion, Walk};
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
    /// The call may wait.
    Yes,
    /// The call must not wait: it runs on a thread that serves other requests too.
    No,
}

/// The next step of a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An encoded `mvccpb.KeyValue`.
    Item(Bytes),
    /// The next item is not in memory. Call again where waiting is allowed.
    NeedsDisk,
    /// The cursor has worked for a while. Let other tasks run, then call again.
    Yield,
    /// There are no more items.
    End,
}

/// The size of an answer before its items are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// The bytes of all items as fields of a `RangeResponse`: tag, length, encoding.
    Bytes(u64),
    /// The cursor has worked for a while. Let other tasks run, then call again.
    Yield,
    /// The index does not hold the sizes: the items have to be read.
    Unknown,
}

/// The revision that a range is read at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    /// The main revision.
    pub(crate) revision: i64,
    /// Whether this is the revision of the newest change in the index. If so, the newest version of
    /// each key and the sums of the index are valid.
    pub(crate) is_newest: bool,
}

/// A range read on the index. The caller fetches the values.
#[derive(Debug)]
pub(crate) struct Ranging {
    source: Source,
    at: At,
    keys_only: bool,
    /// How many more items may be yielded.
    left: u64,
    /// The number of keys in the range that were counted so far.
    count: u64,
    counting: Option<Walk>,
    measuring: Option<(Source, u64, u64)>,
    /// The bytes of all items, if the index holds their sum.
    framed: Option<u64>,
    spent_keys: usize,
    spent_bytes: usize,
}

#[derive(Clone, Debug)]
enum Source {
    One(Option<RangeItem>),
    Walk(Walk),
}

/// A version to yield.
#[derive(Clone, Debug)]
struct RangeItem {
    stored: StoredVersion,
    /// The encoding without value and lease, if it was asked for and the index can make it.
    keys_only: Option<Bytes>,
}

impl At {
    fn live(self, entry: &KeyEntry<'_>) -> Option<StoredVersion> {
        if self.is_newest {
            entry.head.is_live().then_some(entry.head.at)
        } else {
            entry.live_at(self.revision)
        }
    }

    fn find(self, entry: &KeyEntry<'_>, keys_only: bool) -> Option<RangeItem> {
        let stored = self.live(entry)?;
        let from_index = keys_only && stored == entry.head.at;
        let keys_only = from_index.then(|| keys_only_of(entry).to_bytes());
        Some(RangeItem { stored, keys_only })
    }
}

fn keys_only_of<'a>(entry: &KeyEntry<'a>) -> KeyValue<'a> {
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

    /// Continues counting for a while. True when the whole range is counted.
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

    /// The number of bytes that the remaining items take in an answer.
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
        fetch: &mut dyn FnMut(StoredVersion) -> Result<Lookup, Error>,
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
        found: &RangeItem,
        fetch: &mut dyn FnMut(StoredVersion) -> Result<Lookup, Error>,
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

/// The error for a version that is in the index but not in the file.
pub(crate) fn missing(stored: StoredVersion) -> Error {
    Error::corrupt("a version is missing in the bucket `key`", &stored.revision().to_bytes())
}

pub(crate) fn decode(value: &[u8]) -> Result<KeyValue<'_>, Error> {
    KeyValue::decode(value).map_err(|_| {
        Error::corrupt("a stored value is not a key-value", value.get(..64).unwrap_or(value))
    })
}

/// Resolves the revision of a request to the revision to read at.
pub(crate) fn resolve(revision: i64, current: i64, compacted: i64) -> Result<At, RequestError> {
    if revision > current {
        return Err(RequestError::FutureRevision);
    }
    let revision = if revision <= 0 { current } else { revision };
    if revision < compacted {
        return Err(RequestError::Compacted);
    }
    Ok(At { revision, is_newest: revision == current })
}

/// A range read on a view. It holds the view's snapshot, which keeps the file from reusing the
/// snapshot's pages.
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
    /// If the file cannot be read.
    pub fn next(&mut self, wait: Wait) -> Result<Step, Error> {
        let reader = &mut self.reader;
        self.ranging.next(&mut |stored| fetch(reader, stored, wait))
    }

    /// The number of keys in the range, regardless of the limit. Known at once at the current
    /// revision; at older ones with the first item or the end.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        self.ranging.count()
    }

    /// The number of bytes that the items take in the answer. Must be called before the first item.
    pub fn size(&mut self) -> Size {
        self.ranging.size()
    }

    /// Reads the remaining items, waiting for the disk. Returns the items and the count.
    ///
    /// # Errors
    /// If the file cannot be read.
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

/// Reads the value of a version that is a put.
pub(crate) fn fetch(
    reader: &mut VersionReader,
    stored: StoredVersion,
    wait: Wait,
) -> Result<Lookup, Error> {
    Ok(match wait {
        Wait::No => reader.try_put(stored.revision())?,
        Wait::Yes => reader.put(stored.revision())?.map_or(Lookup::Missing, Lookup::Found),
    })
}

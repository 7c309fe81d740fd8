//! The responses of reads, for later serializable reads of the same client, as a machine without I/O.
//!
//! - A write through the proxy removes the responses that contain its keys. Writes by other ways do
//!   not: a serializable read may be answered from an old state, here as by a member.
//! - **Invariant:** a response is not kept if its read overlapped in time with a write to its keys:
//!   it may show the state before the write.
//! - **Invariant:** the responses are at most [`ENTRIES_MAX`], and at most [`BYTES_MAX`] in total. The
//!   one that was not used for longest is removed first.
//! - A response is only for the token that it was read with, so that nobody reads what somebody else
//!   may read.
//!
//! Source: etcd server/proxy/grpcproxy/cache/store.go @ v3.7.1, which has no limit of bytes, keeps
//! responses of overlapping reads, and does not look at tokens.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};

/// The maximum number of responses. That of etcd.
const ENTRIES_MAX: usize = 2048;
/// The maximum of all responses in total, in bytes.
const BYTES_MAX: usize = 64 << 20;
/// A longer response is not kept, in bytes.
const RESPONSE_BYTES_MAX: usize = 1 << 20;

/// The keys from `start` up to `end`, which does not belong to them; `None` for no end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    start: Bytes,
    end: Option<Bytes>,
}

impl Span {
    /// The keys of a request: a single key if `range_end` is empty, and all behind `key` if it is a
    /// zero byte.
    pub(crate) fn new(key: &Bytes, range_end: &Bytes) -> Span {
        let end = match &range_end[..] {
            [] => Some([&key[..], b"\0"].concat().into()),
            [0] => None,
            _ => Some(range_end.clone()),
        };
        Span { start: key.clone(), end }
    }

    fn overlaps(&self, other: &Span) -> bool {
        let begins_before =
            |one: &Span, end: &Option<Bytes>| end.as_ref().is_none_or(|end| one.start < *end);
        begins_before(self, &other.end) && begins_before(other, &self.end)
    }

    fn is_one_key(&self) -> bool {
        self.end.as_ref().is_some_and(|end| {
            end.len() == self.start.len() + 1
                && end.starts_with(&self.start)
                && end.ends_with(b"\0")
        })
    }
}

/// What a response is found by: a token and a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CacheKey {
    pub(crate) token: Option<Bytes>,
    /// The encoded request, as a serializable one.
    pub(crate) request: Bytes,
}

/// A read under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReadId(u64);

/// The number of an entry. It stays the same when the entry is used.
type EntryId = u64;

#[derive(Debug)]
struct CachedResponse {
    key: CacheKey,
    /// `None` for a read at a revision, which no write changes.
    span: Option<Span>,
    response: Bytes,
    /// When it was used last, in numbers that grow.
    used: u64,
}

#[derive(Debug)]
struct Reading {
    span: Span,
    /// Whether a write to its keys has ended since it began.
    is_stale: bool,
}

/// The responses.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: BTreeMap<EntryId, CachedResponse>,
    by_key: BTreeMap<CacheKey, EntryId>,
    by_use: BTreeMap<u64, EntryId>,
    /// The entries of one key, by that key.
    keys: BTreeMap<Bytes, BTreeSet<EntryId>>,
    /// The entries of several keys.
    spans: BTreeMap<Span, BTreeSet<EntryId>>,
    reading: BTreeMap<ReadId, Reading>,
    bytes: usize,
    next: u64,
    /// The highest revision that was compacted through this proxy.
    compacted: i64,
}

impl Cache {
    /// The response to a serializable read, if there is one.
    pub(crate) fn get(&mut self, key: &CacheKey) -> Option<Bytes> {
        let id = *self.by_key.get(key)?;
        let now = self.number();
        let entry = self.entries.get_mut(&id)?;
        self.by_use.remove(&entry.used);
        self.by_use.insert(now, id);
        entry.used = now;
        Some(entry.response.clone())
    }

    /// Whether a revision was compacted through this proxy.
    pub(crate) fn is_compacted(&self, revision: i64) -> bool {
        revision > 0 && revision < self.compacted
    }

    /// How many responses there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Begins a read of the current state. [`Cache::end_read`] must follow.
    pub(crate) fn begin_read(&mut self, span: Span) -> ReadId {
        let id = ReadId(self.number());
        self.reading.insert(id, Reading { span, is_stale: false });
        id
    }

    /// Ends a read. If it was answered, and no write to its keys has ended meanwhile, its response is
    /// kept.
    pub(crate) fn end_read(&mut self, id: ReadId, answered: Option<(CacheKey, Bytes)>) {
        let Some(reading) = self.reading.remove(&id) else { return };
        if let Some((key, response)) = answered.filter(|_| !reading.is_stale) {
            self.add(key, Some(reading.span), response);
        }
    }

    /// Keeps the response to a read at a revision.
    pub(crate) fn add_old(&mut self, key: CacheKey, revision: i64, response: Bytes) {
        if revision >= self.compacted {
            self.add(key, None, response);
        }
    }

    fn add(&mut self, key: CacheKey, span: Option<Span>, response: Bytes) {
        if let Some(id) = self.by_key.get(&key) {
            self.remove(*id);
        }
        if response.len() > RESPONSE_BYTES_MAX {
            return;
        }
        let (id, used) = (self.number(), self.number());
        self.bytes += size(&key, &response);
        self.by_key.insert(key.clone(), id);
        self.by_use.insert(used, id);
        match &span {
            Some(span) if span.is_one_key() => {
                self.keys.entry(span.start.clone()).or_default().insert(id);
            }
            Some(span) => {
                self.spans.entry(span.clone()).or_default().insert(id);
            }
            None => {}
        }
        self.entries.insert(id, CachedResponse { key, span, response, used });
        while self.entries.len() > ENTRIES_MAX || self.bytes > BYTES_MAX {
            let Some((_, oldest)) = self.by_use.first_key_value() else { break };
            self.remove(*oldest);
        }
    }

    /// Removes what a write to these keys changes. Must be called when the write has ended, however
    /// it has.
    pub(crate) fn invalidate(&mut self, span: &Span) {
        for reading in self.reading.values_mut().filter(|reading| reading.span.overlaps(span)) {
            reading.is_stale = true;
        }
        let end = span.end.as_ref().map_or(Unbounded, Excluded);
        let mut changed: Vec<EntryId> = Vec::new();
        if span.end.as_ref().is_none_or(|end| span.start < *end) {
            let keys = self.keys.range::<Bytes, _>((Included(&span.start), end));
            changed.extend(keys.flat_map(|(_, ids)| ids));
        }
        let spans = self.spans.iter().filter(|(other, _)| other.overlaps(span));
        changed.extend(spans.flat_map(|(_, ids)| ids));
        for id in changed {
            self.remove(id);
        }
    }

    /// Notes that the history before a revision is compacted.
    pub(crate) fn compact(&mut self, revision: i64) {
        self.compacted = self.compacted.max(revision);
    }

    fn remove(&mut self, id: EntryId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.bytes -= size(&entry.key, &entry.response);
        self.by_key.remove(&entry.key);
        self.by_use.remove(&entry.used);
        let Some(span) = entry.span else { return };
        if span.is_one_key() {
            forget(&mut self.keys, &span.start, id);
        } else {
            forget(&mut self.spans, &span, id);
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

fn size(key: &CacheKey, response: &Bytes) -> usize {
    key.request.len() + key.token.as_ref().map_or(0, Bytes::len) + response.len()
}

fn forget<K: Ord>(index: &mut BTreeMap<K, BTreeSet<EntryId>>, at: &K, id: EntryId) {
    if let Some(ids) = index.get_mut(at) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use random::Random;

    fn span(key: &str, end: &str) -> Span {
        Span::new(&Bytes::from(key.to_owned()), &Bytes::from(end.to_owned()))
    }

    fn key(request: &str) -> CacheKey {
        CacheKey { token: None, request: request.to_owned().into() }
    }

    /// Adds a response to a read of these keys that is found by their names.
    fn add(cache: &mut Cache, from: &str, end: &str) {
        let read = cache.begin_read(span(from, end));
        cache.end_read(read, Some((key(&format!("{from}-{end}")), "response".into())));
    }

    fn has(cache: &mut Cache, from: &str, end: &str) -> bool {
        cache.get(&key(&format!("{from}-{end}"))).is_some()
    }

    #[test]
    fn a_write_removes_what_contains_its_keys_and_nothing_else() {
        let reads = [("a", ""), ("b", ""), ("a", "b"), ("a", "c"), ("b", "\0"), ("c", "d")];
        for (from, end, left) in [
            ("a", "", &[("b", ""), ("b", "\0"), ("c", "d")][..]),
            ("b", "", &[("a", ""), ("a", "b"), ("c", "d")]),
            ("aa", "", &[("a", ""), ("b", ""), ("b", "\0"), ("c", "d")]),
            ("b", "c", &[("a", ""), ("a", "b"), ("c", "d")]),
            ("c", "\0", &[("a", ""), ("b", ""), ("a", "b"), ("a", "c")]),
            ("b", "a", &reads[..]),
        ] {
            let mut cache = Cache::default();
            reads.iter().for_each(|(from, end)| add(&mut cache, from, end));
            cache.invalidate(&span(from, end));
            for (read_from, read_end) in reads {
                let is_left = left.contains(&(read_from, read_end));
                let what = format!("write {from}-{end}, read {read_from}-{read_end:?}");
                assert_eq!(has(&mut cache, read_from, read_end), is_left, "{what}");
            }
        }
    }

    #[test]
    fn a_read_during_a_write_is_not_kept() {
        let mut cache = Cache::default();
        let (during, other) = (cache.begin_read(span("a", "")), cache.begin_read(span("b", "")));
        cache.invalidate(&span("a", ""));
        cache.end_read(during, Some((key("during"), "old".into())));
        cache.end_read(other, Some((key("other"), "new".into())));
        assert_eq!(cache.get(&key("during")), None);
        assert_eq!(cache.get(&key("other")), Some("new".into()));
        let failed = cache.begin_read(span("c", ""));
        cache.end_read(failed, None);
        assert!(cache.reading.is_empty());
    }

    #[test]
    fn a_response_is_for_its_token_alone() {
        let mut cache = Cache::default();
        let of = |token: Option<&'static str>| CacheKey {
            token: token.map(Bytes::from),
            request: "r".into(),
        };
        let read = cache.begin_read(span("a", ""));
        cache.end_read(read, Some((of(Some("alice")), "secret".into())));
        assert_eq!(cache.get(&of(Some("alice"))), Some("secret".into()));
        assert_eq!(cache.get(&of(Some("bob"))), None);
        assert_eq!(cache.get(&of(None)), None);
    }

    #[test]
    fn the_response_that_was_not_used_for_longest_makes_room() {
        let mut cache = Cache::default();
        for number in 0..ENTRIES_MAX {
            add(&mut cache, &number.to_string(), "");
        }
        assert!(has(&mut cache, "0", ""));
        add(&mut cache, "new", "");
        assert_eq!(cache.len(), ENTRIES_MAX);
        assert!(
            has(&mut cache, "0", "") && has(&mut cache, "new", "") && !has(&mut cache, "1", "")
        );
    }

    #[test]
    fn bytes_are_bounded() {
        let mut cache = Cache::default();
        let response = Bytes::from(vec![0; RESPONSE_BYTES_MAX]);
        for number in 0..100 {
            cache.add_old(key(&format!("{number:02}")), 1, response.clone());
        }
        assert!(cache.bytes <= BYTES_MAX);
        assert_eq!(cache.len(), BYTES_MAX / RESPONSE_BYTES_MAX - 1);
        cache.add_old(key("long"), 1, vec![0; RESPONSE_BYTES_MAX + 1].into());
        assert_eq!(cache.get(&key("long")), None);
    }

    #[test]
    fn reads_at_a_revision_stay_until_it_is_compacted() {
        let mut cache = Cache::default();
        cache.add_old(key("at 5"), 5, "old".into());
        cache.invalidate(&span("", "\0"));
        assert_eq!(cache.get(&key("at 5")), Some("old".into()));
        cache.compact(6);
        assert!(cache.is_compacted(5) && !cache.is_compacted(6) && !cache.is_compacted(0));
        cache.add_old(key("at 4"), 4, "old".into());
        assert_eq!(cache.get(&key("at 4")), None);
    }

    /// Against a list that is searched: what is found, and that nothing is left in the indexes.
    #[test]
    fn the_indexes_find_what_a_search_of_all_entries_finds() {
        let mut random = Random::new(7);
        let mut cache = Cache::default();
        let mut twin: Vec<(Span, CacheKey)> = Vec::new();
        let name = |random: &mut Random| ["a", "b", "c", "\0", ""][random.index(5)];
        for _ in 0..5_000 {
            let (from, end) = (name(&mut random), name(&mut random));
            let read = span(from, end);
            if random.below(3) > 0 {
                add(&mut cache, from, end);
                let key = key(&format!("{from}-{end}"));
                twin.retain(|(_, other)| *other != key);
                twin.push((read, key));
            } else {
                cache.invalidate(&read);
                twin.retain(|(other, _)| !other.overlaps(&read));
            }
            assert_eq!(cache.len(), twin.len());
            assert!(twin.iter().all(|(_, key)| cache.by_key.contains_key(key)));
        }
        cache.invalidate(&span("", "\0"));
        let empty_spans = cache.entries.len();
        assert_eq!(cache.keys.len() + cache.spans.len(), empty_spans);
    }
}

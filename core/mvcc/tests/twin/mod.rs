//! A simple twin of the store: etcd's rules taken literally, with generations for each key and a
//! map for the file.

use prost::Message as _;
use proto::Revision;
use proto::mvccpb::KeyValue;
use random::Random;
use std::collections::{BTreeMap, BTreeSet};

/// Random numbers in the types that the tests use.
pub(crate) struct Seed(Random);

impl Seed {
    pub(crate) fn new(seed: u64) -> Seed {
        Seed(Random::new(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.draw()
    }

    pub(crate) fn below(&mut self, n: i64) -> i64 {
        (self.next() >> 1).cast_signed() % n
    }

    pub(crate) fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.below(i64::try_from(n).unwrap())).unwrap()
    }

    pub(crate) fn one_in(&mut self, n: i64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Generation {
    version: i64,
    create: i64,
    revisions: Vec<Revision>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyIndex {
    generations: Vec<Generation>,
}

impl KeyIndex {
    fn last(&mut self) -> &mut Generation {
        self.generations.last_mut().unwrap()
    }

    fn put(&mut self, at: Revision) {
        let last = self.last();
        if last.revisions.is_empty() {
            last.create = at.main;
        }
        last.revisions.push(at);
        last.version += 1;
    }

    fn tombstone(&mut self, at: Revision) {
        if self.last().revisions.is_empty() {
            return;
        }
        self.put(at);
        self.generations.push(Generation::default());
    }

    /// Revision, create revision and version of the version that a reader sees.
    fn get(&self, main: i64) -> Option<(Revision, i64, i64)> {
        for (at, generation) in self.generations.iter().enumerate().rev() {
            let (Some(first), Some(last)) =
                (generation.revisions.first(), generation.revisions.last())
            else {
                continue;
            };
            if at + 1 != self.generations.len() && last.main <= main {
                return None;
            }
            if first.main <= main {
                let newest = generation.revisions.iter().rposition(|r| r.main <= main).unwrap();
                let later = generation.revisions.len() - newest - 1;
                let version = generation.version - i64::try_from(later).unwrap();
                return Some((generation.revisions[newest], generation.create, version));
            }
        }
        None
    }

    /// The generation that a compaction starts at, and the revision of it that is kept.
    fn compaction(&self, main: i64) -> (usize, Option<usize>) {
        let mut at = 0;
        while at + 1 < self.generations.len()
            && self.generations[at].revisions.last().unwrap().main < main
        {
            at += 1;
        }
        (at, self.generations[at].revisions.iter().rposition(|r| r.main <= main))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Job {
    revision: i64,
    /// The keys of the file to drop, once the job has begun.
    dropped: Option<BTreeSet<Vec<u8>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TwinHash {
    pub(crate) hash: u32,
    pub(crate) compact_revision: i64,
    pub(crate) revision: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct Twin {
    index: BTreeMap<Vec<u8>, KeyIndex>,
    pub(crate) file: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) current: i64,
    pub(crate) compacted: i64,
    pub(crate) scheduled: Option<i64>,
    pub(crate) finished: Option<i64>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) leases: BTreeMap<Vec<u8>, i64>,
    changes: i64,
}

impl Twin {
    pub(crate) fn new() -> Twin {
        Twin {
            index: BTreeMap::new(),
            file: BTreeMap::new(),
            current: 1,
            compacted: -1,
            scheduled: None,
            finished: None,
            jobs: Vec::new(),
            leases: BTreeMap::new(),
            changes: 0,
        }
    }

    pub(crate) fn read_revision(&self) -> i64 {
        self.current + i64::from(self.changes > 0)
    }

    fn next(&mut self) -> Revision {
        self.changes += 1;
        Revision { main: self.current + 1, sub: self.changes - 1 }
    }

    pub(crate) fn put(&mut self, key: &[u8], value: &[u8], lease: i64) {
        let seen = self.index.get(key).and_then(|index| index.get(self.current + 1));
        let at = self.next();
        let kv = KeyValue {
            key: key.to_vec().into(),
            create_revision: seen.map_or(at.main, |(_, create, _)| create),
            mod_revision: at.main,
            version: seen.map_or(0, |(_, _, version)| version) + 1,
            value: value.to_vec().into(),
            lease,
        };
        self.file.insert(at.to_bytes().to_vec(), kv.encode_to_vec());
        let empty = KeyIndex { generations: vec![Generation::default()] };
        self.index.entry(key.to_vec()).or_insert(empty).put(at);
        self.leases.remove(key);
        if lease != 0 {
            self.leases.insert(key.to_vec(), lease);
        }
    }

    pub(crate) fn delete(&mut self, from: &[u8], end: Option<&[u8]>) -> Vec<Vec<u8>> {
        let keys: Vec<Vec<u8>> =
            self.live(from, end, self.read_revision()).into_iter().map(|(key, _)| key).collect();
        for key in &keys {
            let at = self.next();
            let kv = KeyValue { key: key.clone().into(), ..KeyValue::default() };
            self.file.insert(at.to_tombstone_bytes().to_vec(), kv.encode_to_vec());
            self.index.get_mut(key).unwrap().tombstone(at);
            self.leases.remove(key);
        }
        keys
    }

    pub(crate) fn end(&mut self) {
        self.current += i64::from(self.changes > 0);
        self.changes = 0;
    }

    fn live(&self, from: &[u8], end: Option<&[u8]>, main: i64) -> Vec<(Vec<u8>, Revision)> {
        let in_range = |key: &[u8]| key >= from && end.is_none_or(|end| key < end);
        self.index
            .iter()
            .filter(|(key, _)| in_range(key))
            .filter_map(|(key, index)| Some((key.clone(), index.get(main)?.0)))
            .collect()
    }

    pub(crate) fn range(&self, from: &[u8], end: Option<&[u8]>, main: i64) -> Vec<Vec<u8>> {
        let live = self.live(from, end, main);
        live.iter().map(|(_, at)| self.file[&at.to_bytes().to_vec()].clone()).collect()
    }

    /// Events as (revision, tombstone, stored value).
    pub(crate) fn history(&self, from: i64, to: i64) -> Vec<(i64, bool, Vec<u8>)> {
        let all = self.file.iter().map(|(key, value)| {
            let (at, tombstone) = Revision::from_bytes(key).unwrap();
            (at.main, tombstone, value.clone())
        });
        all.filter(|(main, ..)| (from..=to).contains(main)).collect()
    }

    pub(crate) fn compact(&mut self, main: i64) {
        self.jobs.push(Job { revision: main, dropped: None });
        self.compacted = main;
        self.scheduled = Some(main);
    }

    fn begin(&mut self) {
        if self.jobs[0].dropped.is_some() {
            return;
        }
        let main = self.jobs[0].revision;
        let mut keep = BTreeSet::new();
        self.index.retain(|_, index| {
            let (generation, stays) = index.compaction(main);
            let stays = stays.map(|at| (at, index.generations[generation].revisions[at]));
            index.generations.drain(..generation);
            if let Some((at, revision)) = stays {
                keep.insert(revision);
                index.generations[0].revisions.drain(..at);
            }
            index.generations.len() > 1 || !index.generations[0].revisions.is_empty()
        });
        let end = (main + 1).to_be_bytes().to_vec();
        let goes = |key: &&Vec<u8>| !keep.contains(&Revision::from_bytes(key).unwrap().0);
        let dropped = self.file.range(..end).map(|(key, _)| key).filter(goes).cloned().collect();
        self.jobs[0].dropped = Some(dropped);
    }

    /// One slice, which drops `count` versions, those of the smallest revisions first. True if
    /// nothing is left to drop.
    pub(crate) fn slice(&mut self, count: usize) -> bool {
        self.begin();
        let job = &mut self.jobs[0];
        let dropped = job.dropped.as_mut().unwrap();
        for _ in 0..count {
            self.file.remove(&dropped.pop_first().unwrap());
        }
        if !dropped.is_empty() {
            return false;
        }
        self.finished = Some(self.jobs.remove(0).revision);
        true
    }

    fn keep(&self, main: i64) -> BTreeSet<Revision> {
        let mut keep = BTreeSet::new();
        for index in self.index.values() {
            let (generation, stays) = index.compaction(main);
            let revisions = &index.generations[generation].revisions;
            if let Some(at) = stays {
                let ends = at + 1 == revisions.len() && generation + 1 != index.generations.len();
                if !ends {
                    keep.insert(revisions[at]);
                }
            }
        }
        keep
    }

    /// The hash, and whether it depends on how far compaction has come.
    pub(crate) fn hash(&self, revision: i64) -> (TwinHash, bool) {
        let revision = if revision == 0 { self.current } else { revision };
        let keep = self.keep(revision);
        let numbers = (self.compacted, revision);
        let hash = self.file.iter().fold(crc32c::crc32c(b"key"), |crc, (key, value)| {
            hash_pair(crc, numbers, &keep, (key, value))
        });
        (TwinHash { hash, compact_revision: self.compacted, revision }, keep.is_empty())
    }

    /// The twin after a restart with this file.
    pub(crate) fn restore(&self) -> Twin {
        let mut twin = Twin::new();
        twin.file = self.file.clone();
        (twin.scheduled, twin.finished) = (self.scheduled, self.finished);
        twin.compacted = self.finished.unwrap_or(-1);
        for (key, value) in &self.file {
            let (at, tombstone) = Revision::from_bytes(key).unwrap();
            let kv = KeyValue::decode(&value[..]).unwrap();
            twin.current = twin.current.max(at.main);
            let name = kv.key.to_vec();
            twin.leases.remove(&name);
            if !tombstone && kv.lease != 0 {
                twin.leases.insert(name.clone(), kv.lease);
            }
            match twin.index.get_mut(&name) {
                Some(index) if tombstone => index.tombstone(at),
                Some(index) => index.put(at),
                None => {
                    let revisions = vec![at];
                    let first = if tombstone {
                        Generation { version: 1, create: 0, revisions }
                    } else {
                        Generation { version: kv.version, create: kv.create_revision, revisions }
                    };
                    let mut generations = vec![first];
                    if tombstone {
                        generations.push(Generation::default());
                    }
                    twin.index.insert(name, KeyIndex { generations });
                }
            }
        }
        twin.current = twin.current.max(twin.compacted).max(twin.scheduled.unwrap_or(0));
        if let Some(scheduled) = twin.scheduled.filter(|revision| *revision > twin.compacted) {
            twin.compact(scheduled);
        }
        twin
    }
}

fn hash_pair(
    crc: u32,
    (compacted, revision): (i64, i64),
    keep: &BTreeSet<Revision>,
    (key, value): (&[u8], &[u8]),
) -> u32 {
    let (at, tombstone) = Revision::from_bytes(key).unwrap();
    let skip = at.main > revision
        || (at.main <= compacted && !keep.is_empty() && !keep.contains(&at))
        || (at.main == compacted && tombstone);
    if skip { crc } else { crc32c::crc32c_append(crc32c::crc32c_append(crc, key), value) }
}

//! Compares the index with a `BTreeMap` of lists.

use super::node::{self, LEAF_MAX, Node, Sum, Summary};
use super::*;
use bytes::Bytes;
use proto::Revision;
use random::Random;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

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
}

type Model = BTreeMap<Vec<u8>, Vec<NewestVersion>>;

impl Index {
    /// Checks the invariants of the tree.
    pub(crate) fn check(&self) {
        let mut last: Option<Vec<u8>> = None;
        let mut depths = Vec::new();
        let summary = check_node(&self.root, 0, &mut last, &mut depths);
        assert_eq!(summary.sum, self.sum, "the root's sum");
        assert!(depths.windows(2).all(|pair| pair[0] == pair[1]), "one depth");
    }
}

fn check_node(
    node: &Node,
    depth: usize,
    last: &mut Option<Vec<u8>>,
    depths: &mut Vec<usize>,
) -> Summary {
    match node {
        Node::Leaf(leaf) => {
            depths.push(depth);
            assert!(depth == 0 || leaf.keys.len() > 0, "no empty leaf");
            assert!(leaf.keys.len() <= LEAF_MAX, "no leaf is too large");
            assert_eq!(leaf.keys.len(), leaf.heads.len());
            assert_eq!(leaf.keys.len(), leaf.older.len());
            for at in 0..leaf.keys.len() {
                let key = leaf.keys.get(at).to_vec();
                assert!(last.as_ref().is_none_or(|last| *last < key), "keys ascend");
                *last = Some(key);
            }
            leaf.summary()
        }
        Node::Inner(inner) => {
            assert!(inner.children.len() <= node::INNER_MAX);
            assert_eq!(inner.lows.get(0), b"");
            assert_eq!(inner.children.len(), inner.lows.len());
            assert_eq!(inner.children.len(), inner.below.len());
            for (at, child) in inner.children.iter().enumerate() {
                let low = inner.lows.get(at).to_vec();
                assert!(at == 0 || last.as_ref().is_none_or(|last| *last < low), "lows divide");
                let before = last.take();
                let summary = check_node(child, depth + 1, last, depths);
                assert_eq!(summary, inner.below[at], "a child's summary");
                let subtree = Index { root: Arc::clone(child), sum: summary.sum };
                let smallest = Walk::new(&subtree, b"", None);
                let key = smallest.entry().unwrap().key.to_vec();
                assert!(low <= key && before.is_none_or(|before| before < key));
            }
            inner.summary()
        }
    }
}

fn key_of(n: i64) -> Vec<u8> {
    // Prefixes of each other, long keys, and usual ones.
    match n % 5 {
        0 => vec![b'a'; usize::try_from(n % 40).unwrap()],
        1 => format!("/registry/pods/{:05}", n).into_bytes(),
        2 => n.to_be_bytes()[6..].to_vec(),
        3 if n % 400 == 3 => vec![n.to_be_bytes()[7]; 9000],
        _ => format!("k{n}").into_bytes(),
    }
}

fn compare(index: &Index, model: &Model, revision: i64, seed: &mut Seed) {
    index.check();
    let mut walk = Walk::new(index, b"", None);
    for (key, versions) in model {
        let entry = walk.entry().unwrap();
        assert_eq!(entry.key, key);
        assert_eq!(entry.versions(), versions.iter().map(|h| h.at).collect::<Vec<_>>());
        assert_eq!(entry.head, versions.last().unwrap());
        walk.advance();
    }
    assert!(walk.entry().is_none());
    for _ in 0..20 {
        let (a, b) = (key_of(seed.below(600)), key_of(seed.below(600)));
        let at = seed.below(revision + 3);
        let open = seed.below(4) == 0;
        let top = if open { Bound::Unbounded } else { Bound::Excluded(b.clone()) };
        let end = (!open).then(|| Bytes::from(b.clone()));
        let in_range: Vec<_> = if open || a < b {
            model.range((Bound::Included(a.clone()), top)).collect()
        } else {
            Vec::new()
        };
        let mut want = Sum::default();
        in_range.iter().for_each(|(_, versions)| want.add(Sum::of(versions.last().unwrap())));
        assert_eq!(index.sum_of(&a, end.as_deref()), want);
        let mut walk = Walk::new(index, &a, end);
        for (key, versions) in in_range {
            let newest = versions.iter().rev().find(|head| head.at.main() <= at);
            let entry = walk.entry().unwrap();
            assert_eq!(entry.key, key);
            assert_eq!(entry.live_at(at), newest.filter(|head| head.is_live()).map(|head| head.at));
            assert_eq!(index.get(key).unwrap().live_at(at), entry.live_at(at));
            walk.advance();
        }
        assert!(walk.entry().is_none());
    }
}

fn put(index: &mut Index, model: &mut Model, key: &[u8], next: (Revision, i64)) {
    let (revision, lease) = next;
    let at = StoredVersion::new(revision, usize::try_from(lease * 37).unwrap(), false).unwrap();
    let mut made = None;
    index.put(key, &mut |last| {
        assert_eq!(last, model.get(key).and_then(|versions| versions.last()));
        let head = match last {
            Some(last) if last.is_live() => {
                NewestVersion { at, create: last.create, version: last.version + 1, lease }
            }
            _ => NewestVersion { at, create: revision.main, version: 1, lease },
        };
        made = Some(head);
        head
    });
    model.entry(key.to_vec()).or_default().push(made.unwrap());
}

fn delete(index: &mut Index, model: &mut Model, key: &[u8], revision: Revision) {
    let live = index.get(key).is_some_and(|entry| entry.head.is_live());
    assert_eq!(live, model.get(key).is_some_and(|v| v.last().unwrap().is_live()));
    if live {
        let head =
            NewestVersion::tombstone(StoredVersion::new(revision, key.len() + 2, true).unwrap());
        index.put(key, &mut |_| head);
        model.get_mut(key).unwrap().push(head);
    }
}

/// Removes the versions that a compaction at `main` drops, a few at a time.
fn compact(index: &mut Index, model: &mut Model, main: i64, seed: &mut Seed) {
    let mut taken = Vec::new();
    while index.has_superseded(main) {
        let before = taken.len();
        let max = 1 + seed.index(50);
        index.take_superseded(main, max, &mut |stored| taken.push(stored));
        assert!((1..=max).contains(&(taken.len() - before)));
        index.check();
    }
    let mut want = Vec::new();
    for versions in model.values_mut() {
        let newest = versions.iter().rposition(|head| head.at.main() <= main);
        if let Some(newest) = newest {
            let gone = !versions[newest].is_live() && versions[newest].at.main() < main;
            want.extend(versions.drain(..newest + usize::from(gone)).map(|head| head.at));
        }
    }
    model.retain(|_, versions| !versions.is_empty());
    taken.sort_unstable();
    want.sort_unstable();
    assert_eq!(taken, want);
}

#[test]
fn the_index_agrees_with_a_map_of_lists() {
    for seed in 0..12 {
        let mut seed = Seed::new(seed);
        let (mut index, mut model) = (Index::default(), Model::new());
        let mut snapshots: Vec<(Index, Model, i64)> = Vec::new();
        let space = [20, 150, 600][seed.index(3)];
        let mut main = 1;
        for round in 0..3_000 {
            main += 1;
            for sub in 0..=seed.below(3) {
                let key = key_of(seed.below(space));
                let revision = Revision { main, sub };
                if seed.below(4) == 0 {
                    delete(&mut index, &mut model, &key, revision);
                } else {
                    put(&mut index, &mut model, &key, (revision, seed.below(500)));
                }
            }
            if seed.below(300) == 0 {
                let at = main - seed.below(60);
                compact(&mut index, &mut model, at, &mut seed);
            }
            if round % 500 == 499 {
                compare(&index, &model, main, &mut seed);
                snapshots.push((index.clone(), model.clone(), main));
            }
        }
        for (index, model, main) in &snapshots {
            compare(index, model, *main, &mut seed);
        }
        model.keys().cloned().collect::<Vec<_>>().iter().for_each(|key| {
            delete(&mut index, &mut model, key, Revision { main: main + 1, sub: 0 });
        });
        compact(&mut index, &mut model, main + 5, &mut seed);
        assert_eq!(index.sum(), Sum::default());
        compare(&index, &model, main, &mut seed);
    }
}

#[test]
fn a_built_index_equals_one_made_by_puts() {
    for seed in 0..6 {
        let mut seed = Seed::new(seed);
        let (mut index, mut model) = (Index::default(), Model::new());
        let (mut built, mut run) = (Index::default(), VersionBatch::default());
        let merge_each = 1 + seed.below(800);
        for main in 2..4_000 {
            let key = key_of(seed.below(900));
            let revision = Revision { main, sub: 0 };
            let before = model.get(&key).map_or(0, Vec::len);
            if seed.below(4) == 0 {
                delete(&mut index, &mut model, &key, revision);
            } else {
                put(&mut index, &mut model, &key, (revision, seed.below(500)));
            }
            match model.get(&key) {
                Some(versions) if versions.len() > before => {
                    let NewestVersion { at, create, version, lease } = *versions.last().unwrap();
                    run.push(&key, RestoredVersion { at, create, version, lease });
                }
                _ => {}
            }
            if seed.below(merge_each) == 0 {
                run.merge_into(&mut built);
                built.check();
            }
        }
        run.merge_into(&mut built);
        compare(&built, &model, 4_000, &mut seed);
    }
}

#[test]
fn ascending_keys_fill_the_leaves() {
    let mut index = Index::default();
    for n in 0..10_000i64 {
        let at = StoredVersion::new(Revision { main: n + 1, sub: 0 }, 1, false).unwrap();
        index.put(format!("{n:08}").as_bytes(), &mut |_| NewestVersion {
            at,
            create: n + 1,
            version: 1,
            lease: 0,
        });
    }
    index.check();
    let mut leaves = 0;
    let mut nodes = vec![Arc::clone(&index.root)];
    while let Some(node) = nodes.pop() {
        match &*node {
            Node::Leaf(_) => leaves += 1,
            Node::Inner(inner) => nodes.extend(inner.children.iter().cloned()),
        }
    }
    assert!(leaves <= 10_000 / LEAF_MAX + 1, "{leaves}");
}

fn put_at(index: &mut Index, key: &str, main: i64) {
    let at = StoredVersion::new(Revision { main, sub: 0 }, 1, false).unwrap();
    index.put(key.as_bytes(), &mut |_| NewestVersion { at, create: main, version: 1, lease: 0 });
}

#[test]
fn compaction_visits_only_the_nodes_above_superseded_versions() {
    let mut index = Index::default();
    for n in 0..100_000 {
        put_at(&mut index, &format!("{:08}", n * 7919 % 100_000), n + 2);
    }
    for n in 0..10 {
        put_at(&mut index, &format!("{:08}", n * 9_999), 100_002 + n);
    }
    assert!(!index.has_superseded(100_001));
    let mut taken = 0;
    assert_eq!(index.take_superseded(100_001, 1_000, &mut |_| taken += 1), 0);
    let visited = index.take_superseded(100_012, 1_000, &mut |_| taken += 1);
    assert_eq!(taken, 10);
    assert!((10..60).contains(&visited), "{visited} nodes visited");
    assert!(!index.has_superseded(i64::MAX));
    index.check();
}

#[test]
fn a_key_with_a_long_history_is_compacted_in_parts() {
    let mut index = Index::default();
    for main in 2..20_000 {
        put_at(&mut index, "a", main);
        put_at(&mut index, "b", main);
    }
    let mut taken = Vec::new();
    while index.has_superseded(15_000) {
        let before = taken.len();
        let visited = index.take_superseded(15_000, 100, &mut |stored| taken.push(stored.main()));
        assert!(visited == 1 && taken.len() - before <= 100);
        index.check();
    }
    let want: Vec<i64> = (2..15_000).chain(2..15_000).collect();
    assert_eq!(taken, want);
}

//! A map from half-open key ranges to numbers that finds all ranges containing a key. It is a
//! binary search tree ordered by start, in which each node holds the largest end of its subtree. It
//! is balanced as a treap whose priorities come from a counter, so no choice of keys can unbalance
//! it, and equal histories give equal trees.

use bytes::Bytes;
use random::Random;
use std::cmp::Ordering;

/// The exclusive end; none for a range without end.
pub(crate) type End = Option<Bytes>;

#[derive(Debug, Default)]
pub(crate) struct IntervalMap {
    root: Link,
    made: u64,
}

type Link = Option<Box<Node>>;

#[derive(Debug)]
struct Node {
    from: Bytes,
    end: End,
    value: usize,
    priority: u64,
    /// The largest end in the subtree.
    largest_end: End,
    left: Link,
    right: Link,
}

/// A missing end is greater than all keys.
fn larger(a: &End, b: &End) -> End {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b).clone()),
        (None, _) | (_, None) => None,
    }
}

fn is_before_end(key: &[u8], end: &End) -> bool {
    end.as_ref().is_none_or(|end| key < &end[..])
}

fn compare(from: &Bytes, end: &End, node: &Node) -> Ordering {
    let ends = || match (end, &node.end) {
        (Some(a), Some(b)) => a.cmp(b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    };
    from.cmp(&node.from).then_with(ends)
}

impl Node {
    fn update(&mut self) {
        let mut end = self.end.clone();
        for child in [&self.left, &self.right].into_iter().flatten() {
            end = larger(&end, &child.largest_end);
        }
        self.largest_end = end;
    }
}

impl IntervalMap {
    /// The number of a range.
    pub(crate) fn get(&self, from: &Bytes, end: &End) -> Option<usize> {
        let mut at = self.root.as_deref();
        while let Some(node) = at {
            at = match compare(from, end, node) {
                Ordering::Less => node.left.as_deref(),
                Ordering::Greater => node.right.as_deref(),
                Ordering::Equal => return Some(node.value),
            };
        }
        None
    }

    /// Adds a range that is not in the map.
    pub(crate) fn insert(&mut self, from: Bytes, end: End, value: usize) {
        self.made += 1;
        let (left, right) = split(self.root.take(), &from, &end);
        let node = Box::new(Node {
            largest_end: end.clone(),
            from,
            end,
            value,
            priority: Random::new(self.made).draw(),
            left: None,
            right: None,
        });
        self.root = merge(merge(left, Some(node)), right);
    }

    /// Removes a range.
    pub(crate) fn remove(&mut self, from: &Bytes, end: &End) {
        remove(&mut self.root, from, end);
    }

    /// Calls `visit` with the numbers of all ranges that contain `key`.
    pub(crate) fn stab(&self, key: &[u8], visit: &mut dyn FnMut(usize)) {
        stab(self.root.as_deref(), key, visit);
    }
}

fn stab(node: Option<&Node>, key: &[u8], visit: &mut dyn FnMut(usize)) {
    let Some(node) = node else { return };
    if !is_before_end(key, &node.largest_end) {
        return;
    }
    stab(node.left.as_deref(), key, visit);
    if &node.from[..] <= key {
        if is_before_end(key, &node.end) {
            visit(node.value);
        }
        stab(node.right.as_deref(), key, visit);
    }
}

/// Splits into the ranges before the given one, and the others.
fn split(link: Link, from: &Bytes, end: &End) -> (Link, Link) {
    let Some(mut node) = link else { return (None, None) };
    if compare(from, end, &node) == Ordering::Greater {
        let (left, right) = split(node.right.take(), from, end);
        node.right = left;
        node.update();
        (Some(node), right)
    } else {
        let (left, right) = split(node.left.take(), from, end);
        node.left = right;
        node.update();
        (left, Some(node))
    }
}

/// Joins two trees, of which the first contains the smaller ranges.
fn merge(left: Link, right: Link) -> Link {
    match (left, right) {
        (None, link) | (link, None) => link,
        (Some(mut left), Some(mut right)) => {
            if left.priority > right.priority {
                left.right = merge(left.right.take(), Some(right));
                left.update();
                Some(left)
            } else {
                right.left = merge(Some(left), right.left.take());
                right.update();
                Some(right)
            }
        }
    }
}

fn remove(link: &mut Link, from: &Bytes, end: &End) {
    let Some(node) = link else { return };
    match compare(from, end, node) {
        Ordering::Less => remove(&mut node.left, from, end),
        Ordering::Greater => remove(&mut node.right, from, end),
        Ordering::Equal => {
            *link = merge(node.left.take(), node.right.take());
            return;
        }
    }
    node.update();
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng as _, SeedableRng as _};

    fn depth(link: &Link) -> usize {
        link.as_ref().map_or(0, |node| 1 + depth(&node.left).max(depth(&node.right)))
    }

    fn key(rng: &mut SmallRng) -> Bytes {
        (0..rng.random_range(1..4)).map(|_| rng.random_range(b'a'..b'f')).collect()
    }

    #[test]
    fn the_tree_finds_what_a_list_finds() {
        for seed in 0..20 {
            let rng = &mut SmallRng::seed_from_u64(seed);
            let mut tree = IntervalMap::default();
            let mut list: Vec<(Bytes, End, usize)> = Vec::new();
            for value in 0..400 {
                let (from, end) = (key(rng), rng.random_bool(0.9).then(|| key(rng)));
                let known = list.iter().position(|item| item.0 == from && item.1 == end);
                assert_eq!(tree.get(&from, &end), known.map(|at| list[at].2), "seed {seed}");
                match known {
                    Some(at) => {
                        list.swap_remove(at);
                        tree.remove(&from, &end);
                    }
                    None => {
                        list.push((from.clone(), end.clone(), value));
                        tree.insert(from, end, value);
                    }
                }
                let point = key(rng);
                let mut found = Vec::new();
                tree.stab(&point, &mut |value| found.push(value));
                found.sort_unstable();
                let mut wanted: Vec<usize> = list
                    .iter()
                    .filter(|item| item.0 <= point && is_before_end(&point, &item.1))
                    .map(|item| item.2)
                    .collect();
                wanted.sort_unstable();
                assert_eq!(found, wanted, "seed {seed}");
            }
        }
    }

    #[test]
    fn rising_keys_do_not_unbalance_the_tree() {
        let mut tree = IntervalMap::default();
        for number in 0..10_000usize {
            let from = Bytes::from(format!("{number:08}"));
            tree.insert(from.clone(), Some(Bytes::from(format!("{number:08}x"))), number);
        }
        assert!(depth(&tree.root) < 50, "depth {}", depth(&tree.root));
        let mut found = Vec::new();
        tree.stab(b"00005000a", &mut |value| found.push(value));
        assert_eq!(found, [5000]);
    }
}

//! The older versions of one key, oldest first: nothing, one slice, or a copy-on-write tree of
//! 64-entry chunks with a short tail, so that a put costs the same however long the history is.
//! The newest version is not here but in the leaf.
//!
//! - Revisions ascend, through all chunks and into the tail.
//! - Every chunk but the first of the tree is full; none is empty.
//! - A history of at most 64 versions is a slice; compaction brings a tree back to one.

use super::stored::Stored;
use proto::Revision;
use std::sync::Arc;

/// Versions in a chunk, and links in an inner node of the tree.
const CHUNK: usize = 64;

/// The older versions of a key.
#[derive(Clone, Debug, Default)]
pub(crate) enum Older {
    #[default]
    None,
    Few(Arc<[Stored]>),
    Many(Arc<Many>),
}

/// More than a chunk of them.
#[derive(Clone, Debug)]
pub(crate) struct Many {
    root: Arc<Vec<Link>>,
    /// Levels of links below the root.
    height: usize,
    tail: Vec<Stored>,
}

#[derive(Clone, Debug)]
struct Link {
    /// The first revision below, or one that was there before a compaction.
    first: Revision,
    below: Below,
}

#[derive(Clone, Debug)]
enum Below {
    Chunk(Arc<[Stored]>),
    Links(Arc<Vec<Link>>),
}

impl Older {
    /// Adds a version that is newer than all others.
    pub(crate) fn push(&mut self, stored: Stored) {
        match self {
            Older::None => *self = Older::Few(Arc::new([stored])),
            Older::Few(few) if few.len() < CHUNK => {
                *few = few.iter().copied().chain([stored]).collect();
            }
            Older::Few(few) => {
                let link = Link { first: few[0].revision(), below: Below::Chunk(Arc::clone(few)) };
                let mut tail = Vec::with_capacity(CHUNK);
                tail.push(stored);
                *self = Older::Many(Arc::new(Many { root: Arc::new(vec![link]), height: 0, tail }));
            }
            Older::Many(many) => Arc::make_mut(many).push(stored),
        }
    }

    /// Adds versions that are newer than all others, and ascend.
    pub(crate) fn extend(&mut self, list: &[Stored]) {
        match self {
            Older::None => *self = Older::from_list(list),
            Older::Few(few) if few.len() + list.len() <= CHUNK => {
                if !list.is_empty() {
                    *few = few.iter().chain(list).copied().collect();
                }
            }
            Older::Few(_) | Older::Many(_) => list.iter().for_each(|stored| self.push(*stored)),
        }
    }

    /// All of `list`, which ascends.
    fn from_list(list: &[Stored]) -> Older {
        match list {
            [] => Older::None,
            few if few.len() <= CHUNK => Older::Few(few.into()),
            many => {
                let mut older = Older::Few(many[..CHUNK].into());
                many[CHUNK..].iter().for_each(|stored| older.push(*stored));
                older
            }
        }
    }

    /// The newest version with a main revision of at most `main`.
    pub(crate) fn at(&self, main: i64) -> Option<Stored> {
        match self {
            Older::None => None,
            Older::Few(few) => newest_at(few, main),
            Older::Many(many) => {
                newest_at(&many.tail, main).or_else(|| at_in_links(&many.root, main))
            }
        }
    }

    /// Forgets the versions before `bound`.
    pub(crate) fn drop_below(&mut self, bound: Revision) {
        match self {
            Older::None => {}
            Older::Few(few) => {
                let keep = few.partition_point(|stored| stored.revision() < bound);
                if keep == few.len() {
                    *self = Older::None;
                } else if keep > 0 {
                    *few = few[keep..].into();
                }
            }
            Older::Many(many) => {
                if let Some(rest) = Arc::make_mut(many).drop_below(bound) {
                    *self = Older::from_list(&rest);
                }
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Older::None)
    }

    /// Calls `f` for every version, oldest first.
    #[cfg(test)]
    pub(crate) fn for_each(&self, f: &mut dyn FnMut(Stored)) {
        match self {
            Older::None => {}
            Older::Few(few) => few.iter().copied().for_each(f),
            Older::Many(many) => {
                for_each_in_links(&many.root, f);
                many.tail.iter().copied().for_each(f);
            }
        }
    }
}

impl Many {
    fn push(&mut self, stored: Stored) {
        if self.tail.len() == CHUNK {
            let chunk: Arc<[Stored]> = self.tail.as_slice().into();
            self.tail.clear();
            let link = Link { first: chunk[0].revision(), below: Below::Chunk(chunk) };
            if let Some(right) = push_link(&mut self.root, self.height, link) {
                let left = Arc::clone(&self.root);
                let links = [left, right]
                    .map(|links| Link { first: links[0].first, below: Below::Links(links) });
                self.root = Arc::new(links.into());
                self.height += 1;
            }
        }
        if self.tail.capacity() < CHUNK {
            // The copy of a shared tail is as long as the tail was.
            self.tail.reserve_exact(8.min(CHUNK - self.tail.len()));
        }
        self.tail.push(stored);
    }

    /// Returns what is left when it is few enough for a slice.
    fn drop_below(&mut self, bound: Revision) -> Option<Vec<Stored>> {
        drop_links_below(&mut self.root, bound);
        while self.height > 0 && self.root.len() == 1 {
            let Below::Links(links) = &self.root[0].below else {
                unreachable!("above height 0 there are links below")
            };
            self.root = Arc::clone(links);
            self.height -= 1;
        }
        let left_in_tree = match (&self.root[..], self.height) {
            ([], _) => 0,
            ([Link { below: Below::Chunk(only), .. }], 0) => only.len(),
            _ => return None,
        };
        if left_in_tree == 0 {
            self.tail.retain(|stored| stored.revision() >= bound);
        }
        if left_in_tree + self.tail.len() > CHUNK {
            return None;
        }
        let mut rest = Vec::with_capacity(left_in_tree + self.tail.len());
        for_each_in_links(&self.root, &mut |stored| rest.push(stored));
        rest.extend_from_slice(&self.tail);
        Some(rest)
    }
}

fn newest_at(list: &[Stored], main: i64) -> Option<Stored> {
    let behind = list.partition_point(|stored| stored.main() <= main);
    behind.checked_sub(1).map(|at| list[at])
}

fn at_in_links(links: &[Link], main: i64) -> Option<Stored> {
    let behind = links.partition_point(|link| link.first.main <= main);
    // After a compaction the first link may hold less than its `first` says.
    match &links[behind.checked_sub(1)?].below {
        Below::Chunk(chunk) => newest_at(chunk, main),
        Below::Links(links) => at_in_links(links, main),
    }
}

/// Adds a link at the right edge; returns a new neighbour of `links` if they are full.
fn push_link(links: &mut Arc<Vec<Link>>, height: usize, mut link: Link) -> Option<Arc<Vec<Link>>> {
    let list = Arc::make_mut(links);
    if height > 0
        && let Some(Link { below: Below::Links(last), .. }) = list.last_mut()
    {
        let right = push_link(last, height - 1, link)?;
        link = Link { first: right[0].first, below: Below::Links(right) };
    }
    if list.len() == CHUNK {
        return Some(Arc::new(vec![link]));
    }
    list.push(link);
    None
}

fn drop_links_below(links: &mut Arc<Vec<Link>>, bound: Revision) {
    let behind = links.partition_point(|link| link.first <= bound);
    let list = Arc::make_mut(links);
    list.drain(..behind.saturating_sub(1));
    let Some(first) = list.first_mut() else { return };
    let empty = match &mut first.below {
        Below::Chunk(chunk) => {
            let keep = chunk.partition_point(|stored| stored.revision() < bound);
            if keep > 0 {
                *chunk = chunk[keep..].into();
            }
            chunk.is_empty()
        }
        Below::Links(below) => {
            drop_links_below(below, bound);
            below.is_empty()
        }
    };
    if empty {
        list.remove(0);
    }
}

fn for_each_in_links(links: &[Link], f: &mut dyn FnMut(Stored)) {
    for link in links {
        match &link.below {
            Below::Chunk(chunk) => chunk.iter().copied().for_each(&mut *f),
            Below::Links(links) => for_each_in_links(links, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(main: i64, sub: i64) -> Stored {
        Stored::new(Revision { main, sub }, 10, false).unwrap()
    }

    fn list(older: &Older) -> Vec<Stored> {
        let mut all = Vec::new();
        older.for_each(&mut |stored| all.push(stored));
        all
    }

    #[test]
    fn a_long_history_answers_like_a_list() {
        let mut older = Older::default();
        let mut model = Vec::new();
        let mut floor = 0;
        for n in 0..20_000i64 {
            let next = stored(n * 3 / 2 + 1, n % 2);
            let before = older.clone();
            older.push(next);
            if n % 997 == 0 {
                assert_eq!(list(&before), model, "a copy saw a later push");
            }
            model.push(next);
            if n % 1_111 == 1_110 {
                floor += 700;
                let bound = Revision { main: floor, sub: 1 };
                older.drop_below(bound);
                model.retain(|stored| stored.revision() >= bound);
            }
            for main in [0, floor, floor + 1, n / 2, n, n * 3 / 2, i64::MAX] {
                let want = model.iter().rev().find(|stored| stored.main() <= main).copied();
                assert_eq!(older.at(main), want, "at {main} after {n}");
            }
        }
        assert_eq!(list(&older), model);
        older.drop_below(Revision { main: i64::MAX, sub: 0 });
        assert!(older.is_empty());
    }

    #[test]
    fn every_cut_of_a_tree_is_right() {
        let all: Vec<Stored> = (1..=64 * 64 + 130).map(|main| stored(main, 0)).collect();
        let whole = Older::from_list(&all);
        for main in (0..=64 * 64 + 131).step_by(7) {
            let mut cut = whole.clone();
            cut.drop_below(Revision { main, sub: 0 });
            let want: Vec<Stored> = all.iter().copied().filter(|s| s.main() >= main).collect();
            assert_eq!(list(&cut), want, "{main}");
            cut.push(stored(9_000, 0));
            assert_eq!(cut.at(i64::MAX), Some(stored(9_000, 0)));
        }
        assert_eq!(list(&whole), all);
    }
}

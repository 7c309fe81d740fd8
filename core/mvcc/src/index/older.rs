//! The older versions of one key, oldest first: none, one slice, or a copy-on-write tree of
//! 64-entry chunks with a short tail. A put costs the same regardless of the length of the history.
//! The newest version is not here but in the leaf.
//!
//! - Revisions ascend, through all chunks and into the tail.
//! - Every chunk but the first of the tree is full; none is empty.
//! - A history of at most 64 versions is a slice; compaction brings a tree back to one.

use super::stored::StoredVersion;
use std::ops::ControlFlow;
use std::sync::Arc;

/// The number of versions in a chunk, and of links in an inner node of the tree.
const CHUNK: usize = 64;

/// The older versions of a key.
#[derive(Clone, Debug, Default)]
pub(crate) enum Older {
    #[default]
    None,
    Few(Arc<[StoredVersion]>),
    Many(Arc<Many>),
}

/// A history that is longer than a chunk.
#[derive(Clone, Debug)]
pub(crate) struct Many {
    root: Arc<Vec<Link>>,
    /// Levels of links below the root.
    height: usize,
    tail: Vec<StoredVersion>,
}

#[derive(Clone, Debug)]
struct Link {
    /// The first version below, or an earlier one that compaction has removed.
    first: StoredVersion,
    below: Below,
}

#[derive(Clone, Debug)]
enum Below {
    Chunk(Arc<[StoredVersion]>),
    Links(Arc<Vec<Link>>),
}

impl Older {
    /// Appends a version that is newer than all here.
    pub(crate) fn push(&mut self, stored: StoredVersion) {
        match self {
            Older::None => *self = Older::Few(Arc::new([stored])),
            Older::Few(few) if few.len() < CHUNK => {
                *few = few.iter().copied().chain([stored]).collect();
            }
            Older::Few(few) => {
                let link = Link { first: few[0], below: Below::Chunk(Arc::clone(few)) };
                let mut tail = Vec::with_capacity(CHUNK);
                tail.push(stored);
                *self = Older::Many(Arc::new(Many { root: Arc::new(vec![link]), height: 0, tail }));
            }
            Older::Many(many) => Arc::make_mut(many).push(stored),
        }
    }

    /// Appends ascending versions that are newer than all here.
    pub(crate) fn extend(&mut self, list: &[StoredVersion]) {
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

    /// Makes a history from an ascending list.
    fn from_list(list: &[StoredVersion]) -> Older {
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
    pub(crate) fn at(&self, main: i64) -> Option<StoredVersion> {
        match self {
            Older::None => None,
            Older::Few(few) => newest_at(few, main),
            Older::Many(many) => {
                newest_at(&many.tail, main).or_else(|| at_in_links(&many.root, main))
            }
        }
    }

    /// The two oldest versions.
    pub(crate) fn first_two(&self) -> (Option<StoredVersion>, Option<StoredVersion>) {
        match self {
            Older::None => (None, None),
            Older::Few(few) => (few.first().copied(), few.get(1).copied()),
            Older::Many(_) => {
                let mut two = [None; 2];
                let (ControlFlow::Continue(()) | ControlFlow::Break(())) =
                    self.visit(&mut |stored| {
                        let at = usize::from(two[0].is_some());
                        two[at] = Some(stored);
                        if at == 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                    });
                (two[0], two[1])
            }
        }
    }

    /// Removes the versions before `bound`, oldest first and at most `max`. Returns their number.
    pub(crate) fn take_below(
        &mut self,
        bound: StoredVersion,
        max: usize,
        taken: &mut dyn FnMut(StoredVersion),
    ) -> usize {
        let mut count = 0;
        let mut first_left = bound;
        let (ControlFlow::Continue(()) | ControlFlow::Break(())) = self.visit(&mut |stored| {
            if stored >= bound || count == max {
                first_left = first_left.min(stored);
                return ControlFlow::Break(());
            }
            taken(stored);
            count += 1;
            ControlFlow::Continue(())
        });
        if count > 0 {
            self.drop_below(first_left);
        }
        count
    }

    /// Removes the versions before `bound`.
    fn drop_below(&mut self, bound: StoredVersion) {
        match self {
            Older::None => {}
            Older::Few(few) => {
                let keep = few.partition_point(|stored| *stored < bound);
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

    /// Visits the versions, oldest first, until `f` breaks.
    pub(crate) fn visit(
        &self,
        f: &mut dyn FnMut(StoredVersion) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match self {
            Older::None => ControlFlow::Continue(()),
            Older::Few(few) => few.iter().copied().try_for_each(f),
            Older::Many(many) => {
                visit_links(&many.root, f)?;
                many.tail.iter().copied().try_for_each(f)
            }
        }
    }
}

impl Many {
    fn push(&mut self, stored: StoredVersion) {
        if self.tail.len() == CHUNK {
            let chunk: Arc<[StoredVersion]> = self.tail.as_slice().into();
            self.tail.clear();
            let link = Link { first: chunk[0], below: Below::Chunk(chunk) };
            if let Some(right) = push_link(&mut self.root, self.height, link) {
                let left = Arc::clone(&self.root);
                let links = [left, right]
                    .map(|links| Link { first: links[0].first, below: Below::Links(links) });
                self.root = Arc::new(links.into());
                self.height += 1;
            }
        }
        if self.tail.capacity() < CHUNK {
            // Cloning a shared tail leaves no spare capacity.
            self.tail.reserve_exact(8.min(CHUNK - self.tail.len()));
        }
        self.tail.push(stored);
    }

    /// Removes the versions before `bound`. Returns the remaining ones if they fit into a slice.
    fn drop_below(&mut self, bound: StoredVersion) -> Option<Vec<StoredVersion>> {
        drop_links_below(&mut self.root, bound);
        while self.height > 0 && self.root.len() == 1 {
            let Below::Links(links) = &self.root[0].below else {
                unreachable!("a node above height 0 has links")
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
            self.tail.retain(|stored| *stored >= bound);
        }
        if left_in_tree + self.tail.len() > CHUNK {
            return None;
        }
        let mut rest = Vec::with_capacity(left_in_tree + self.tail.len());
        let (ControlFlow::Continue(()) | ControlFlow::Break(())) =
            visit_links(&self.root, &mut |stored| {
                rest.push(stored);
                ControlFlow::Continue(())
            });
        rest.extend_from_slice(&self.tail);
        Some(rest)
    }
}

fn newest_at(list: &[StoredVersion], main: i64) -> Option<StoredVersion> {
    let behind = list.partition_point(|stored| stored.main() <= main);
    behind.checked_sub(1).map(|at| list[at])
}

fn at_in_links(links: &[Link], main: i64) -> Option<StoredVersion> {
    let behind = links.partition_point(|link| link.first.main() <= main);
    // After a compaction the first link may begin later than its `first`.
    match &links[behind.checked_sub(1)?].below {
        Below::Chunk(chunk) => newest_at(chunk, main),
        Below::Links(links) => at_in_links(links, main),
    }
}

/// Appends a link at the right edge. Returns a new right neighbour if `links` is full.
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

fn drop_links_below(links: &mut Arc<Vec<Link>>, bound: StoredVersion) {
    let behind = links.partition_point(|link| link.first <= bound);
    let list = Arc::make_mut(links);
    list.drain(..behind.saturating_sub(1));
    let Some(first) = list.first_mut() else { return };
    let empty = match &mut first.below {
        Below::Chunk(chunk) => {
            let keep = chunk.partition_point(|stored| *stored < bound);
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

fn visit_links(
    links: &[Link],
    f: &mut dyn FnMut(StoredVersion) -> ControlFlow<()>,
) -> ControlFlow<()> {
    links.iter().try_for_each(|link| match &link.below {
        Below::Chunk(chunk) => chunk.iter().copied().try_for_each(&mut *f),
        Below::Links(links) => visit_links(links, f),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::Revision;

    fn stored(main: i64, sub: i64) -> StoredVersion {
        StoredVersion::new(Revision { main, sub }, 10, false).unwrap()
    }

    fn list(older: &Older) -> Vec<StoredVersion> {
        let mut all = Vec::new();
        let (ControlFlow::Continue(()) | ControlFlow::Break(())) = older.visit(&mut |stored| {
            all.push(stored);
            ControlFlow::Continue(())
        });
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
                let bound = stored(floor, 1);
                older.drop_below(bound);
                model.retain(|stored| *stored >= bound);
            }
            for main in [0, floor, floor + 1, n / 2, n, n * 3 / 2, i64::MAX] {
                let want = model.iter().rev().find(|stored| stored.main() <= main).copied();
                assert_eq!(older.at(main), want, "at {main} after {n}");
            }
        }
        assert_eq!(list(&older), model);
        older.drop_below(StoredVersion::first_of(i64::MAX));
        assert!(older.is_empty());
    }

    #[test]
    fn every_cut_of_a_tree_is_right() {
        let all: Vec<StoredVersion> = (1..=64 * 64 + 130).map(|main| stored(main, 0)).collect();
        let whole = Older::from_list(&all);
        for main in (0..=64 * 64 + 131).step_by(7) {
            let mut cut = whole.clone();
            cut.drop_below(StoredVersion::first_of(main));
            let want: Vec<StoredVersion> =
                all.iter().copied().filter(|s| s.main() >= main).collect();
            assert_eq!(list(&cut), want, "{main}");
            cut.push(stored(9_000, 0));
            assert_eq!(cut.at(i64::MAX), Some(stored(9_000, 0)));
        }
        assert_eq!(list(&whole), all);
    }

    #[test]
    fn the_oldest_versions_are_taken_first_and_no_more_than_asked_for() {
        for len in [1, 2, 63, 64, 65, 200, 5_000] {
            let all: Vec<StoredVersion> = (1..=len).map(|main| stored(main, 0)).collect();
            let mut older = Older::from_list(&all);
            let bound = stored(len - len / 3, 0);
            let mut taken = Vec::new();
            for max in (1..).step_by(7) {
                let before = taken.len();
                let count = older.take_below(bound, max, &mut |stored| taken.push(stored));
                assert_eq!(taken.len() - before, count);
                assert_eq!([&taken[..], &list(&older)].concat(), all, "{len}");
                let left = list(&older);
                let two = (left.first().copied(), left.get(1).copied());
                assert_eq!(older.first_two(), two);
                if count < max {
                    break;
                }
            }
            assert!(taken.iter().all(|stored| *stored < bound));
            assert!(list(&older).iter().all(|stored| *stored >= bound), "{len}");
        }
    }
}

//! One key of the index: its newest version, the older ones, and which of them readers see and
//! compactions keep.

use super::older::Older;
use super::stored::{NewestVersion, StoredVersion};

/// A key and its versions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyEntry<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) head: &'a NewestVersion,
    pub(crate) older: &'a Older,
}

impl KeyEntry<'_> {
    /// The version that a reader at a main revision sees.
    pub(crate) fn live_at(&self, main: i64) -> Option<StoredVersion> {
        newest_at(self.head, self.older, main).filter(|stored| !stored.is_tombstone())
    }

    /// All versions, oldest first.
    #[cfg(test)]
    pub(crate) fn versions(&self) -> Vec<StoredVersion> {
        let mut all = Vec::new();
        let visited = self.older.visit(&mut |stored| {
            all.push(stored);
            std::ops::ControlFlow::Continue(())
        });
        assert!(visited.is_continue(), "the visitor stops nowhere");
        all.push(self.head.at);
        all
    }
}

/// The newest version at or before a main revision, which may be a tombstone.
fn newest_at(head: &NewestVersion, older: &Older, main: i64) -> Option<StoredVersion> {
    if head.at.main() <= main { Some(head.at) } else { older.at(main) }
}

/// The version that a compaction at `main` keeps of those up to it: the newest. A tombstone is
/// kept only if it was made at that very revision, because a watcher may start there.
pub(crate) fn kept_at(head: &NewestVersion, older: &Older, main: i64) -> Option<StoredVersion> {
    newest_at(head, older, main).filter(|stored| !stored.is_tombstone() || stored.main() == main)
}

/// The `droppable_from` of a key or subtree without droppable versions.
pub(crate) const NEVER: i64 = i64::MAX;

/// The smallest compaction revision that drops a version of a key: the one at which its oldest
/// version is superseded. A tombstone is superseded by the next revision.
pub(crate) fn droppable_from(head: &NewestVersion, older: &Older) -> i64 {
    let (oldest, next) = match older.first_two() {
        (None, _) => (head.at, NEVER),
        (Some(oldest), next) => (oldest, next.unwrap_or(head.at).main()),
    };
    if oldest.is_tombstone() { next.min(oldest.main().saturating_add(1)) } else { next }
}

//! The overlay: a bounded list of applied batches that are not in the file yet, over a view of the
//! file. `state` pushes batches; the backend commits a prefix of them; `state` then retires the
//! prefix and takes the view of that commit.
//!
//! - Revisions of versions ascend through the list and are above those in the file.
//! - Pushing and retiring do not change existing views.

use crate::batch::Batch;
use crate::snapshot::{CHUNK, Chunk};
use crate::view::ReadView;
use proto::Revision;
use std::collections::VecDeque;
use std::sync::Arc;

/// The list of applied batches; see the module.
#[derive(Debug)]
pub struct Overlay {
    chunks: VecDeque<Arc<Chunk>>,
    /// The revision after the last version that was pushed.
    next: Revision,
    bytes: usize,
    batches: usize,
    limit: usize,
    base: Option<bolt::View>,
}

impl Overlay {
    /// The default limit, in bytes.
    pub const LIMIT: usize = 8 << 20;

    /// An empty overlay over a view of the file. Without a file, which is for tests, batches are
    /// never committed.
    #[must_use]
    pub fn new(base: Option<bolt::View>, limit: usize) -> Overlay {
        Overlay {
            chunks: VecDeque::new(),
            next: Revision::default(),
            bytes: 0,
            batches: 0,
            limit,
            base,
        }
    }

    /// Whether a batch of this size has to wait. A batch larger than the limit is accepted when the
    /// overlay is empty.
    #[must_use]
    pub fn is_full_for(&self, bytes: usize) -> bool {
        self.batches > 0 && self.bytes + bytes > self.limit
    }

    /// The memory of the batches, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of batches.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batches
    }

    /// Whether there are no batches: all changes are in the file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batches == 0
    }

    /// Appends the batch that was applied next.
    ///
    /// # Panics
    /// If its versions are not above those of earlier batches.
    pub fn push(&mut self, batch: Arc<Batch>) {
        let first = batch.versions().first().map_or(self.next, |version| version.revision);
        assert!(first >= self.next, "revisions ascend from batch to batch");
        if let Some(last) = batch.versions().last() {
            self.next = Revision { main: last.revision.main, sub: last.revision.sub + 1 };
        }
        self.bytes += batch.bytes();
        self.batches += 1;
        match self.chunks.back_mut() {
            Some(chunk) if chunk.batches.len() < CHUNK => {
                Arc::make_mut(chunk).push(batch, first);
            }
            _ => {
                let mut chunk = Chunk::default();
                chunk.push(batch, first);
                self.chunks.push_back(Arc::new(chunk));
            }
        }
    }

    /// Drops the oldest `batches` batches, which `base`, the new view of the file, contains.
    ///
    /// # Panics
    /// If there are fewer batches.
    pub fn retire(&mut self, batches: usize, base: bolt::View) {
        self.base = Some(base);
        self.forget(batches);
    }

    fn forget(&mut self, batches: usize) {
        assert!(batches <= self.batches, "only what was pushed can be retired");
        let mut left = batches;
        while left > 0 {
            let Some(chunk) = self.chunks.front_mut() else { break };
            let whole = chunk.batches.len() <= left;
            let gone = left.min(chunk.batches.len());
            self.bytes -= chunk.batches[..gone].iter().map(|batch| batch.bytes()).sum::<usize>();
            left -= gone;
            if whole {
                self.chunks.pop_front();
            } else {
                let chunk = Arc::make_mut(chunk);
                chunk.forget(gone);
            }
        }
        self.batches -= batches;
    }

    /// The batches, oldest first; the backend commits a prefix of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Batch>> {
        self.chunks.iter().flat_map(|chunk| &chunk.batches)
    }

    /// A view of all batches over the file.
    #[must_use]
    pub fn view(&self) -> ReadView {
        ReadView::new(self.chunks.iter().cloned().collect(), self.base.clone())
    }
}

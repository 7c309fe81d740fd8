//! What was applied and is not yet in the file: a bounded list of batches over a view of it.
//! State owns it and pushes; the backend turns a prefix into one transaction; state retires that
//! prefix in exchange for the view of the file that has it.
//!
//! - The revisions of versions ascend through the list, and all are above those of the file.
//! - A view is a snapshot: neither pushing nor retiring changes it.

use crate::batch::Batch;
use crate::snapshot::{CHUNK, Chunk};
use crate::view::ReadView;
use proto::Revision;
use std::collections::VecDeque;
use std::sync::Arc;

/// The list. See the module.
#[derive(Debug)]
pub struct Overlay {
    chunks: VecDeque<Arc<Chunk>>,
    /// What follows the last version that was ever pushed.
    next: Revision,
    bytes: usize,
    batches: usize,
    limit: usize,
    base: Option<bolt::View>,
}

impl Overlay {
    /// What it should hold at most, in bytes.
    pub const LIMIT: usize = 8 << 20;

    /// Nothing over a view of the file. Without a file it holds everything, which only tests
    /// want.
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

    /// Whether a batch of this size has to wait. One that is larger than the limit is taken when
    /// nothing else is there.
    #[must_use]
    pub fn is_full_for(&self, bytes: usize) -> bool {
        self.batches > 0 && self.bytes + bytes > self.limit
    }

    /// The bytes that are held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of batches that are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batches
    }

    /// Whether everything is in the file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batches == 0
    }

    /// Adds what was applied next.
    ///
    /// # Panics
    /// When its versions are not above those of earlier batches.
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

    /// Gives the oldest `batches` batches back, now that the file has them, and reads the file
    /// through `base` from now on.
    ///
    /// # Panics
    /// When there are not as many.
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

    /// The batches that are held, oldest first: the backend takes a prefix of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Batch>> {
        self.chunks.iter().flat_map(|chunk| &chunk.batches)
    }

    /// A snapshot of the file with all batches.
    #[must_use]
    pub fn view(&self) -> ReadView {
        ReadView::new(self.chunks.iter().cloned().collect(), self.base.clone())
    }
}

//! Runs a compaction of the store in slices, between entries.

use crate::effect::Effect;
use crate::machine::State;
use backend::Batch;
use mvcc::Slice;
use proto::answer::Answer;

impl State {
    /// Does a slice of the current compaction. When it has finished, answers the requests that
    /// waited for it.
    pub(crate) fn compact_slice(&mut self, effects: &mut Vec<Effect>) {
        if !self.has_housekeeping() {
            return;
        }
        let mut batch = Batch::new(self.applied);
        let limit = self.settings.compaction_slice;
        let slice = self.storage.store.compaction_slice(&mut batch, limit);
        if slice == Slice::More(0) {
            // Only the index has changed, which makes no difference for readers.
            return;
        }
        if let Slice::More(dropped) | Slice::Finished { dropped, .. } = slice {
            self.totals.dropped += dropped as u64;
        }
        if let Slice::Finished { revision, .. } = slice {
            self.totals.compactions += 1;
            let current = self.storage.store.revision();
            let finished = self.waiters.compaction_finished(revision).into_iter();
            let answer = || Ok(Answer::Compact { revision: current });
            self.output.answers.extend(finished.map(|id| (id, answer())));
            tracing::info!(revision, "finished scheduled compaction");
        }
        self.finish(batch, effects);
    }
}

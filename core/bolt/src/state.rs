//! The state of the writer between transactions, besides the page map.

use std::collections::VecDeque;
use std::sync::Weak;

use crate::packing::Packing;
use crate::relocate::Relocation;
use crate::scan::TreeIds;
use crate::snapshot::Snapshot;
use crate::view::View;
use crate::writer::PageRun;

/// The state that a transaction changes besides the page map.
#[derive(Debug)]
pub(crate) struct WriterState {
    pub(crate) current: View,
    /// The views that may still be in use, oldest first, with their txids.
    pub(crate) views: VecDeque<(u64, Weak<Snapshot>)>,
    pub(crate) pending: VecDeque<(u64, Vec<PageRun>)>,
    pub(crate) tree_ids: TreeIds,
    /// The freelist on disk, which the first commit frees.
    pub(crate) freelist: Option<PageRun>,
    pub(crate) read_only: bool,
    pub(crate) poisoned: bool,
    pub(crate) relocation: Relocation,
    pub(crate) packing: Packing,
}

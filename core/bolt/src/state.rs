//! What the writer keeps between transactions, besides the map of pages.

use std::collections::VecDeque;
use std::sync::Weak;

use crate::packing::Packing;
use crate::relocate::Relocation;
use crate::scan::TreeIds;
use crate::snapshot::Snapshot;
use crate::view::View;
use crate::writer::PageRun;

/// What a transaction changes besides pages.
#[derive(Debug)]
pub(crate) struct WriterState {
    pub(crate) current: View,
    /// All views that may still be alive, oldest first.
    pub(crate) views: VecDeque<(u64, Weak<Snapshot>)>,
    pub(crate) pending: VecDeque<(u64, Vec<PageRun>)>,
    pub(crate) tree_ids: TreeIds,
    /// The freelist on disk, which the first commit gives up.
    pub(crate) freelist: Option<PageRun>,
    pub(crate) read_only: bool,
    pub(crate) poisoned: bool,
    pub(crate) relocation: Relocation,
    pub(crate) packing: Packing,
}

//! What the writer keeps between transactions, besides the map of pages.

use std::collections::VecDeque;
use std::sync::Weak;

use crate::packing::Packing;
use crate::relocate::Relocation;
use crate::scan::Slots;
use crate::snapshot::Snapshot;
use crate::store::Run;
use crate::view::View;

/// What a transaction changes besides pages.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) current: View,
    /// All views that may still be alive, oldest first.
    pub(crate) views: VecDeque<(u64, Weak<Snapshot>)>,
    pub(crate) pending: VecDeque<(u64, Vec<Run>)>,
    pub(crate) slots: Slots,
    /// The freelist on disk, which the first commit gives up.
    pub(crate) freelist: Option<Run>,
    pub(crate) read_only: bool,
    pub(crate) poisoned: bool,
    pub(crate) relocation: Relocation,
    pub(crate) packing: Packing,
}

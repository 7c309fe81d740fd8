//! The snapshot behind a view.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::bucket::Bucket;
use crate::meta::Meta;
use crate::pager::Pager;

/// The state of the file as of one commit.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) pager: Arc<Pager>,
    pub(crate) meta: Meta,
    pub(crate) buckets: BTreeMap<Bytes, Bucket>,
    /// Pages free at the commit.
    pub(crate) free_pages: u64,
}

impl Snapshot {
    /// The bytes up to the high-water mark.
    pub(crate) fn size(&self) -> u64 {
        self.meta.hwm * self.meta.page_size as u64
    }
}

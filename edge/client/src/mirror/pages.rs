//! The keys of a range at one revision, page by page.

use crate::call::Client;
use crate::error::Error;
use proto::etcdserverpb as pb;
use proto::mvccpb::KeyValue;

/// Keys of a page.
const KEYS_MAX: i64 = 1000;

/// Reads a range.
pub(super) struct Pages<'a> {
    client: &'a Client,
    /// The first key of the next page; `None` after the last one.
    next: Option<Vec<u8>>,
    end: Vec<u8>,
    /// The revision of the first page, at which the other pages are read too; 0 before the first
    /// page.
    revision: i64,
    /// The number of keys on all pages; 0 before the first page.
    total: u64,
}

impl<'a> Pages<'a> {
    /// The pages of the range `[first, end)`.
    pub(super) fn new(client: &'a Client, first: Vec<u8>, end: Vec<u8>) -> Pages<'a> {
        Pages { client, next: Some(first), end, revision: 0, total: 0 }
    }

    /// The next page; `None` after the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<KeyValue>>, Error> {
        let Some(first) = self.next.take() else { return Ok(None) };
        let request = pb::RangeRequest {
            key: first.into(),
            range_end: self.end.clone().into(),
            limit: KEYS_MAX,
            revision: self.revision,
            ..pb::RangeRequest::default()
        };
        let page = self.client.range(request).await?;
        if self.revision == 0 {
            self.revision = page.header.map_or(0, |header| header.revision);
            self.total = u64::try_from(page.count).unwrap_or_default();
        }
        if page.more {
            // The smallest key after the last one.
            self.next = page.kvs.last().map(|last| [&last.key[..], &[0]].concat());
        }
        Ok(Some(page.kvs))
    }

    /// The revision at which the pages are read; 0 before the first one.
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    /// The number of keys on all pages; 0 before the first one.
    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

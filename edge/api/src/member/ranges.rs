//! Ranges from a view. A small or sorted range is collected first. A large range in key order is
//! read while it is sent, so that it takes no more memory than the client's window.
//!
//! Source: etcd v3.7 server/etcdserver/txn/range.go, v3_server.go rangeStream.

use super::errors::{denied_status, revision_status, store_status};
use super::worker_host::WorkerHost;
use crate::host::{Item, Items, LargeRange, RangeChunks, RangeReply};
use auth::Caller;
use mvcc::{RangeCursor, RangeQuery, Size, Step, View, Wait};
use proto::answer::RangeAnswer;
use proto::etcdserverpb::RangeRequest;
use rpc::{Code, Status};
use state::range::{Collector, is_plain, query};

/// A response of at least this many bytes is read while it is sent.
const LARGE_BYTES: u64 = 128 * 1024;
/// How many keys the first chunk of a streamed range has.
const FIRST_CHUNK_KEYS: u64 = 10;

/// Answers a range from a view.
pub(super) async fn range(
    host: &WorkerHost,
    caller: &Caller,
    view: &View,
    request: &RangeRequest,
) -> Result<RangeReply, Status> {
    host.worker.count_range();
    if let Some(large) = large(host, caller, view, request).await? {
        return Ok(RangeReply::Large(large));
    }
    collected(host, caller, view, request).await.map(RangeReply::Answer)
}

/// Collects a range.
pub(super) async fn collected(
    host: &WorkerHost,
    caller: &Caller,
    view: &View,
    request: &RangeRequest,
) -> Result<RangeAnswer, Status> {
    let mut cursor = open(host, caller, view, query(request))?;
    let mut collector = Collector::new(request);
    loop {
        match step(&mut cursor)? {
            Item::Next(item) => collector.push(item).map_err(|error| {
                Status::new(Code::Unknown, format!("retcd: a stored value is broken: {error}"))
            })?,
            Item::Yield => tokio::task::yield_now().await,
            Item::End => break,
        }
    }
    let count = cursor.count().unwrap_or_default();
    Ok(collector.finish(view.revision(), count))
}

fn open(
    host: &WorkerHost,
    caller: &Caller,
    view: &View,
    query: RangeQuery,
) -> Result<RangeCursor, Status> {
    let query = host.auth().permit(caller, query).map_err(denied_status)?;
    view.range(&query).map_err(revision_status)
}

/// The cursor of a range, if the range is large, in key order, unfiltered, and of known count.
async fn large(
    host: &WorkerHost,
    caller: &Caller,
    view: &View,
    request: &RangeRequest,
) -> Result<Option<LargeRange>, Status> {
    if request.range_end.is_empty() || request.count_only || !is_plain(request) {
        return Ok(None);
    }
    // The cursor needs no key beyond the limit, since `count` tells whether there are more.
    host.worker.count_range();
    let limit = u64::try_from(request.limit).unwrap_or(0);
    let mut cursor = open(host, caller, view, RangeQuery { limit, ..query(request) })?;
    let Some(count) = cursor.count() else { return Ok(None) };
    let items_len = loop {
        match cursor.size() {
            Size::Bytes(bytes) => break bytes,
            Size::Yield => tokio::task::yield_now().await,
            Size::Unknown => return Ok(None),
        }
    };
    let Ok(items_len) = usize::try_from(items_len) else { return Ok(None) };
    if (items_len as u64) < LARGE_BYTES {
        return Ok(None);
    }
    let answer = RangeAnswer {
        revision: view.revision(),
        kvs: Vec::new(),
        more: limit > 0 && count > limit,
        count: signed(count),
    };
    Ok(Some(LargeRange { answer, items_len, items: Box::new(Cursor(cursor)) }))
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

struct Cursor(RangeCursor);

impl Items for Cursor {
    fn next(&mut self) -> Result<Item, Status> {
        step(&mut self.0)
    }
}

/// The next item. Blocks on the disk if necessary.
fn step(cursor: &mut RangeCursor) -> Result<Item, Status> {
    loop {
        return match cursor.next(Wait::Yes) {
            Ok(Step::Item(item)) => Ok(Item::Next(item)),
            Ok(Step::Yield) => Ok(Item::Yield),
            Ok(Step::End) => Ok(Item::End),
            Ok(Step::NeedsDisk) => continue,
            Err(error) => Err(store_status(&error)),
        };
    }
}

/// Starts a range that is answered in chunks.
pub(super) fn chunks(
    host: &WorkerHost,
    caller: &Caller,
    view: &View,
    request: &RangeRequest,
) -> Result<Box<dyn RangeChunks>, Status> {
    let limit = u64::try_from(request.limit).unwrap_or(0);
    let mut cursor = open(host, caller, view, RangeQuery { limit, ..query(request) })?;
    // A cursor that does not know its count yet computes it while it is read.
    let mut first = None;
    while cursor.count().is_none() {
        first = Some(step(&mut cursor)?);
    }
    let count = cursor.count().unwrap_or_default();
    let wanted = if request.count_only {
        0
    } else if limit > 0 {
        count.min(limit)
    } else {
        count
    };
    Ok(Box::new(Chunks {
        cursor,
        first,
        revision: view.revision(),
        count,
        left: wanted,
        more: !request.count_only && wanted < count,
        chunk_keys: FIRST_CHUNK_KEYS,
        chunk_bytes: host.chunk_bytes,
        done: false,
    }))
}

struct Chunks {
    cursor: RangeCursor,
    first: Option<Item>,
    revision: i64,
    count: u64,
    /// Keys that are still to be sent.
    left: u64,
    more: bool,
    chunk_keys: u64,
    chunk_bytes: usize,
    done: bool,
}

impl RangeChunks for Chunks {
    fn next(&mut self) -> Result<Option<RangeAnswer>, Status> {
        if self.done {
            return Ok(None);
        }
        let mut chunk = RangeAnswer::default();
        let mut bytes = 0;
        let keys = self.chunk_keys.min(self.left);
        while (chunk.kvs.len() as u64) < keys {
            let item = match self.first.take() {
                Some(item) => item,
                None => step(&mut self.cursor)?,
            };
            match item {
                Item::Next(item) => {
                    bytes += item.len();
                    chunk.kvs.push(item);
                }
                Item::Yield => {}
                Item::End => break,
            }
        }
        self.left = self.left.saturating_sub((chunk.kvs.len() as u64).max(1));
        if bytes < self.chunk_bytes / 2 {
            self.chunk_keys *= 2;
        } else if bytes > self.chunk_bytes.saturating_mul(2) {
            self.chunk_keys = (self.chunk_keys / 2).max(1);
        }
        if self.left == 0 {
            self.done = true;
            chunk.revision = self.revision;
            chunk.more = self.more;
            chunk.count = signed(self.count);
        }
        Ok(Some(chunk))
    }
}

//! The encoding of a bucket, which is the value of its name in the root tree: 16 bytes { root page
//! u64, sequence u64 }, followed by the whole leaf page (*inline*) if the root page is 0.
//!
//! Source: bbolt bucket.go @ v1.4.3 (`inlineable`, `write`), internal/common/bucket.go.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::map::TreeId;
use crate::page::{Item, Kind, Page, encode, encoded_size, u64_at};

/// Length of the bucket header, in bytes.
pub(crate) const BUCKET_HEADER: usize = 16;

/// The root of a bucket's tree.
#[derive(Clone, Debug)]
pub(crate) enum Root {
    /// A page of the file.
    Page(u64),
    /// A leaf in the bucket's value.
    Inline(Page),
}

/// A bucket of the root tree.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub(crate) tree: TreeId,
    /// bbolt's counter for callers, which etcd does not use. Preserved.
    pub(crate) sequence: u64,
    pub(crate) root: Root,
}

/// A bucket that a write transaction has opened.
#[derive(Debug)]
pub(crate) struct OpenBucket {
    pub(crate) bucket: Bucket,
    /// Operations not merged into the tree yet; `None` deletes.
    pub(crate) ops: BTreeMap<Bytes, Option<Bytes>>,
    /// The tree has changed.
    pub(crate) changed: bool,
}

impl OpenBucket {
    /// An opened bucket without changes.
    pub(crate) fn new(bucket: Bucket) -> OpenBucket {
        OpenBucket { bucket, ops: BTreeMap::new(), changed: false }
    }
}

/// Makes the page of an inline bucket.
pub(crate) fn inline_page(items: &[Item]) -> Page {
    let len = encoded_size(items.iter());
    let data = encode(Kind::Leaf, 0, 0, items.iter(), len);
    match Page::decode_inline(Bytes::from(data)) {
        Ok(page) => page,
        Err(what) => unreachable!("a page that we encoded is valid: {what}"),
    }
}

/// Reads the root of a bucket from its value: the root page or inline page, and the sequence.
pub(crate) fn decode(value: &Bytes) -> Result<(Root, u64), &'static str> {
    if value.len() < BUCKET_HEADER {
        return Err("a bucket's value is too short");
    }
    let sequence = u64_at(value, 8);
    let root = match u64_at(value, 0) {
        0 => Root::Inline(Page::decode_inline(value.slice(BUCKET_HEADER..))?),
        page => Root::Page(page),
    };
    Ok((root, sequence))
}

impl Bucket {
    /// The bucket's value in the root tree.
    pub(crate) fn encode(&self) -> Bytes {
        let (page, inline): (u64, &[u8]) = match &self.root {
            Root::Page(page) => (*page, &[]),
            Root::Inline(page) => (0, page.bytes()),
        };
        let mut out = Vec::with_capacity(BUCKET_HEADER + inline.len());
        out.extend_from_slice(&page.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(inline);
        Bytes::from(out)
    }
}

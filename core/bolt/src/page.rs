//! The layout of tree pages: header, elements, keys and values.
//!
//! All integers are little endian (bbolt uses the byte order of the CPU). Page n is at n times the
//! page size. A page and the overflow pages that follow it are a *run*.
//!
//! | offset | size | header |
//! |---|---|---|
//! | 0 | u64 | page id |
//! | 8 | u16 | flags: 1 branch, 2 leaf, 4 meta, 16 freelist |
//! | 10 | u16 | count of elements |
//! | 12 | u32 | overflow: pages of the run after the first |
//!
//! A branch element is { pos u32, ksize u32, child u64 }, a leaf element { flags u32, pos u32,
//! ksize u32, vsize u32 }; `pos` is relative to the start of the element, and the value follows the
//! key. Keys ascend. A branch key is exactly the first key of its child, because bbolt's writer
//! finds the child in its parent by that key.
//!
//! Source: bbolt internal/common/page.go @ v1.4.3, node.go @ v1.4.3.

use bytes::Bytes;

/// Length of the page header and of each element, in bytes.
pub(crate) const HEADER: usize = 16;
/// Length of an element of either kind, in bytes.
pub(crate) const ELEMENT: usize = 16;
pub(crate) const FLAG_BRANCH: u16 = 0x01;
pub(crate) const FLAG_LEAF: u16 = 0x02;
pub(crate) const FLAG_META: u16 = 0x04;
pub(crate) const FLAG_FREELIST: u16 = 0x10;
/// Leaf element flag: the value is a bucket.
pub(crate) const ITEM_BUCKET: u32 = 1;
/// The most elements that are written to a page; the limit of the format is 65,534.
pub(crate) const ITEMS_MAX: usize = 60_000;
/// The maximum depth of a tree. A deeper one is a cycle in a damaged file.
pub(crate) const DEPTH_MAX: usize = 64;

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 32_768;
/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = (1 << 31) - 2;

/// The kind of a tree page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Branch,
    Leaf,
}

/// An element of a tree page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) key: Bytes,
    /// Empty in a branch.
    pub(crate) value: Bytes,
    /// 0 in a branch.
    pub(crate) flags: u32,
    /// The child page in a branch, 0 in a leaf.
    pub(crate) child: u64,
}

impl Item {
    pub(crate) fn leaf(key: Bytes, value: Bytes, flags: u32) -> Item {
        Item { key, value, flags, child: 0 }
    }

    pub(crate) fn branch(key: Bytes, child: u64) -> Item {
        Item { key, value: Bytes::new(), flags: 0, child }
    }

    /// The bytes that the element takes on a page.
    pub(crate) fn size(&self) -> usize {
        ELEMENT + self.key.len() + self.value.len()
    }
}

/// A validated tree page with its overflow pages: all accessors stay in bounds.
///
/// - Keys ascend strictly and have 1 to [`KEY_BYTES_MAX`] bytes.
/// - A branch has at least one element.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    data: Bytes,
    id: u64,
    kind: Kind,
    count: usize,
}

pub(crate) fn u16_at(buf: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([buf[at], buf[at + 1]])
}

pub(crate) fn u32_at(buf: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([buf[at], buf[at + 1], buf[at + 2], buf[at + 3]])
}

pub(crate) fn u64_at(buf: &[u8], at: usize) -> u64 {
    u64::from(u32_at(buf, at)) | (u64::from(u32_at(buf, at + 4)) << 32)
}

/// A u32 of the file as a length.
fn len_at(buf: &[u8], at: usize) -> usize {
    usize::try_from(u32_at(buf, at)).unwrap_or(usize::MAX)
}

/// The header of a tree page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) count: usize,
    pub(crate) overflow: u64,
}

impl Header {
    /// Decodes the header of the tree page `id`. Its run must end at or below `end`.
    pub(crate) fn decode(buf: &[u8], id: u64, end: u64) -> Result<Header, &'static str> {
        if buf.len() < HEADER {
            return Err("shorter than a page header");
        }
        if u64_at(buf, 0) != id {
            return Err("the page carries another page's id");
        }
        let kind = match u16_at(buf, 8) {
            FLAG_BRANCH => Kind::Branch,
            FLAG_LEAF => Kind::Leaf,
            _ => return Err("neither a branch nor a leaf page"),
        };
        let overflow = u64::from(u32_at(buf, 12));
        if overflow >= end.saturating_sub(id) {
            return Err("the page's overflow reaches past the end");
        }
        Ok(Header { kind, count: usize::from(u16_at(buf, 10)), overflow })
    }
}

/// The start of an element's key and the lengths of key and value, checked to be inside `buf`.
fn element_extent(buf: &[u8], kind: Kind, index: usize) -> Result<(usize, usize, usize), ()> {
    let at = HEADER + index * ELEMENT;
    let (pos, key_len, value_len) = match kind {
        Kind::Branch => (len_at(buf, at), len_at(buf, at + 4), 0),
        Kind::Leaf => (len_at(buf, at + 4), len_at(buf, at + 8), len_at(buf, at + 12)),
    };
    let start = at.checked_add(pos).ok_or(())?;
    let end = start.checked_add(key_len).and_then(|n| n.checked_add(value_len)).ok_or(())?;
    if end > buf.len() { Err(()) } else { Ok((start, key_len, value_len)) }
}

/// Checks all of a page except the order of its keys, for the scan at open. Returns the bytes in
/// use.
pub(crate) fn check_bounds(buf: &[u8], header: &Header) -> Result<usize, &'static str> {
    let data_start = HEADER + header.count * ELEMENT;
    if data_start > buf.len() {
        return Err("more elements than the page has room for");
    }
    if header.kind == Kind::Branch && header.count == 0 {
        return Err("a branch page without elements");
    }
    let mut used = data_start;
    for index in 0..header.count {
        let Ok((start, key_len, value_len)) = element_extent(buf, header.kind, index) else {
            return Err("an element reaches past the page");
        };
        if start < data_start {
            return Err("an element's data overlaps the elements");
        }
        if key_len == 0 || key_len > KEY_BYTES_MAX {
            return Err("a key of impossible length");
        }
        used = used.max(start + key_len + value_len);
    }
    Ok(used)
}

impl Page {
    /// Validates `data`, the run of the page `id`, which must end at or below `end`.
    pub(crate) fn decode(data: Bytes, id: u64, end: u64) -> Result<Page, &'static str> {
        let header = Header::decode(&data, id, end)?;
        Page::check(data, id, header)
    }

    /// Validates the page of an inline bucket.
    pub(crate) fn decode_inline(data: Bytes) -> Result<Page, &'static str> {
        let header = Header::decode(&data, 0, 1)?;
        if header.kind != Kind::Leaf {
            return Err("an inline bucket whose page is not a leaf");
        }
        Page::check(data, 0, header)
    }

    fn check(data: Bytes, id: u64, header: Header) -> Result<Page, &'static str> {
        check_bounds(&data, &header)?;
        let page = Page { data, id, kind: header.kind, count: header.count };
        for index in 1..page.count {
            if page.key(index - 1) >= page.key(index) {
                return Err("keys out of order");
            }
        }
        Ok(page)
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Bytes of the whole run.
    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    /// The raw bytes of the run.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.data
    }

    fn key_range(&self, index: usize) -> (usize, usize) {
        let at = HEADER + index * ELEMENT;
        let field = if self.kind == Kind::Branch { at } else { at + 4 };
        let start = at + len_at(&self.data, field);
        (start, start + len_at(&self.data, field + 4))
    }

    pub(crate) fn key(&self, index: usize) -> &[u8] {
        let (start, end) = self.key_range(index);
        &self.data[start..end]
    }

    pub(crate) fn key_bytes(&self, index: usize) -> Bytes {
        let (start, end) = self.key_range(index);
        self.data.slice(start..end)
    }

    /// A leaf's value, shared with the page.
    pub(crate) fn value(&self, index: usize) -> Bytes {
        let at = HEADER + index * ELEMENT;
        let (_, end) = self.key_range(index);
        self.data.slice(end..end + len_at(&self.data, at + 12))
    }

    /// A leaf element's flags.
    pub(crate) fn flags(&self, index: usize) -> u32 {
        u32_at(&self.data, HEADER + index * ELEMENT)
    }

    /// True if a leaf's value is a bucket.
    pub(crate) fn is_bucket(&self, index: usize) -> bool {
        self.flags(index) & ITEM_BUCKET != 0
    }

    /// A branch's child page.
    pub(crate) fn child(&self, index: usize) -> u64 {
        u64_at(&self.data, HEADER + index * ELEMENT + 8)
    }

    pub(crate) fn item(&self, index: usize) -> Item {
        match self.kind {
            Kind::Branch => Item::branch(self.key_bytes(index), self.child(index)),
            Kind::Leaf => Item::leaf(self.key_bytes(index), self.value(index), self.flags(index)),
        }
    }

    /// The index of `key`, or where it would be inserted.
    pub(crate) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.key(middle).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// The index of the branch element whose child covers `key`.
    pub(crate) fn child_index(&self, key: &[u8]) -> usize {
        match self.search(key) {
            Ok(index) => index,
            Err(index) => index.saturating_sub(1),
        }
    }
}

fn u32_of(n: usize) -> u32 {
    u32::try_from(n).unwrap_or_else(|_| unreachable!("a page is smaller than 4 GiB"))
}

/// The bytes that `items` take on a page, header included.
pub(crate) fn encoded_size<'a>(items: impl Iterator<Item = &'a Item>) -> usize {
    HEADER + items.map(Item::size).sum::<usize>()
}

/// Encodes a page of `len` bytes, at least [`encoded_size`], with `items`.
pub(crate) fn encode<'a>(
    kind: Kind,
    id: u64,
    overflow: u64,
    items: impl ExactSizeIterator<Item = &'a Item> + Clone,
    len: usize,
) -> Vec<u8> {
    let count = items.len();
    assert!(count <= ITEMS_MAX, "a page is split before it has {ITEMS_MAX} elements");
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(&id.to_le_bytes());
    let flags = if kind == Kind::Branch { FLAG_BRANCH } else { FLAG_LEAF };
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes());
    let overflow = u32::try_from(overflow).unwrap_or(u32::MAX);
    out.extend_from_slice(&overflow.to_le_bytes());
    let mut data = HEADER + count * ELEMENT;
    for (index, item) in items.clone().enumerate() {
        let pos = u32_of(data - (HEADER + index * ELEMENT));
        if kind == Kind::Leaf {
            out.extend_from_slice(&item.flags.to_le_bytes());
        }
        out.extend_from_slice(&pos.to_le_bytes());
        out.extend_from_slice(&u32_of(item.key.len()).to_le_bytes());
        match kind {
            Kind::Branch => out.extend_from_slice(&item.child.to_le_bytes()),
            Kind::Leaf => out.extend_from_slice(&u32_of(item.value.len()).to_le_bytes()),
        }
        data += item.key.len() + item.value.len();
    }
    for item in items {
        out.extend_from_slice(&item.key);
        out.extend_from_slice(&item.value);
    }
    assert!(out.len() <= len, "a page's run is as long as its items need");
    out.resize(len, 0);
    out
}

//! The two meta pages, of which the newer valid one names the current trees.
//!
//! At offset 16 of page 0 or 1: magic u32, version u32, page size u32, flags u32, root page u64,
//! root sequence u64, freelist page u64 (all ones: none on disk), high-water mark u64, txid u64,
//! FNV-1a 64 of those 56 bytes. A commit with txid t writes page t mod 2; a reader takes the
//! valid one with the greater txid.
//!
//! Source: bbolt internal/common/meta.go, db.go @ v1.4.3.

use crate::page::{FLAG_META, HEADER, u32_at, u64_at};

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// The freelist's page id when there is none on disk.
pub(crate) const NO_FREELIST: u64 = u64::MAX;
/// The length of the used part of a meta page, in bytes.
pub(crate) const META_END: usize = 80;
/// The smallest and the largest page size in bytes, as in bbolt.
pub(crate) const PAGE_SIZE_MIN: usize = 1024;
pub(crate) const PAGE_SIZE_MAX: usize = 1024 << 14;

/// The state of the file as of one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Bytes.
    pub(crate) page_size: usize,
    /// The root page of the tree of buckets.
    pub(crate) root: u64,
    /// The sequence of the root bucket. Preserved.
    pub(crate) sequence: u64,
    /// The page of the freelist. Commits write [`NO_FREELIST`]; only a new file has a freelist.
    pub(crate) freelist: u64,
    /// The high-water mark: all used pages are below it, and the file has at least as many pages.
    pub(crate) hwm: u64,
    pub(crate) txid: u64,
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Meta {
    /// Decodes a meta page; `None` if it is invalid.
    pub(crate) fn decode(buf: &[u8]) -> Option<Meta> {
        if buf.len() < META_END {
            return None;
        }
        if u32_at(buf, 16) != MAGIC || u32_at(buf, 20) != VERSION {
            return None;
        }
        if u64_at(buf, 72) != fnv1a(&buf[16..72]) {
            return None;
        }
        let page_size = usize::try_from(u32_at(buf, 24)).ok()?;
        if !(PAGE_SIZE_MIN..=PAGE_SIZE_MAX).contains(&page_size) || !page_size.is_power_of_two() {
            return None;
        }
        Some(Meta {
            page_size,
            root: u64_at(buf, 32),
            sequence: u64_at(buf, 40),
            freelist: u64_at(buf, 48),
            hwm: u64_at(buf, 56),
            txid: u64_at(buf, 64),
        })
    }

    /// The page that a commit writes this meta to.
    pub(crate) fn page(&self) -> u64 {
        self.txid % 2
    }

    /// The whole meta page.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.page_size);
        out.extend_from_slice(&self.page().to_le_bytes());
        out.extend_from_slice(&FLAG_META.to_le_bytes());
        out.extend_from_slice(&[0; 6]);
        assert!(out.len() == HEADER, "the meta follows a page header");
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&VERSION.to_le_bytes());
        let page_size = u32::try_from(self.page_size).unwrap_or(u32::MAX);
        out.extend_from_slice(&page_size.to_le_bytes());
        out.extend_from_slice(&0_u32.to_le_bytes());
        for field in [self.root, self.sequence, self.freelist, self.hwm, self.txid] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        let sum = fnv1a(&out[HEADER..]);
        out.extend_from_slice(&sum.to_le_bytes());
        out.resize(self.page_size, 0);
        out
    }
}

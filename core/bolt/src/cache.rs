//! The page cache: validated pages of any number of files, bounded in bytes.
//!
//! Shards, each with a mutex over a map and a clock hand. No lock is held while the file is read.
//! Values share the memory of their page, so memory that readers keep is not counted here.
//!
//! - The bytes of the pages in a shard do not exceed the shard's part of the limit.
//! - The writer of a page inserts or removes its entry before it publishes a view that reaches the
//!   page, so an entry always has the current content of the page.

use std::hash::{BuildHasherDefault, Hasher};

use crate::page::Page;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

const SHARDS: usize = if cfg!(loom) { 1 } else { 16 };
/// The memory of an entry besides the page, in bytes: the entry, its place in the map, reference
/// counts.
const ENTRY_OVERHEAD: usize = 160;

type Key = (u64, u64);
/// Where the entry of a page is. The hash has no random part, so its order is the same in each run.
#[expect(
    clippy::disallowed_types,
    reason = "only the random order of the default hasher is harmful"
)]
type Index = std::collections::HashMap<Key, usize, BuildHasherDefault<PageHasher>>;

#[derive(Debug)]
struct CacheEntry {
    key: Key,
    page: Page,
    /// Set by a hit and cleared by the clock hand, which evicts entries without it.
    hit: bool,
}

#[derive(Debug, Default)]
struct Shard {
    entries: Vec<Option<CacheEntry>>,
    vacant: Vec<usize>,
    index: Index,
    hand: usize,
    bytes: usize,
    hits: u64,
    misses: u64,
}

/// Mixes the numbers of a key. Page ids come from the allocator of the file, not from clients, so
/// clients cannot choose keys that collide.
#[derive(Clone, Copy, Debug, Default)]
struct PageHasher(u64);

impl Hasher for PageHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        let product = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        // The map uses the low bits, and a product is mixed best in its high bits.
        self.0 = product.rotate_left(32);
    }
}

/// A bounded page cache, shared by the databases that are opened with it.
#[derive(Debug)]
pub struct PageCache {
    shards: Vec<Mutex<Shard>>,
    shard_limit: usize,
    owners: AtomicU64,
}

fn weight(page: &Page) -> usize {
    page.len() + ENTRY_OVERHEAD
}

impl Shard {
    fn remove(&mut self, key: Key) {
        if let Some(at) = self.index.remove(&key)
            && let Some(entry) = self.entries[at].take()
        {
            self.bytes -= weight(&entry.page);
            self.vacant.push(at);
        }
    }

    /// Moves the hand until `needed` bytes fit.
    fn make_room(&mut self, needed: usize, limit: usize) {
        while self.bytes + needed > limit && !self.index.is_empty() {
            self.hand = if self.hand + 1 < self.entries.len() { self.hand + 1 } else { 0 };
            let Some(entry) = &mut self.entries[self.hand] else { continue };
            if entry.hit {
                entry.hit = false;
            } else {
                let key = entry.key;
                self.remove(key);
            }
        }
    }

    fn insert(&mut self, key: Key, page: Page) {
        self.bytes += weight(&page);
        let entry = Some(CacheEntry { key, page, hit: false });
        let at = match self.vacant.pop() {
            Some(at) => {
                self.entries[at] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        };
        self.index.insert(key, at);
    }
}

impl PageCache {
    /// A cache of at most `limit` bytes. A page larger than a sixteenth of that is not cached.
    #[must_use]
    pub fn new(limit: usize) -> PageCache {
        PageCache {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::default())).collect(),
            shard_limit: limit / SHARDS,
            owners: AtomicU64::new(0),
        }
    }

    /// The bytes of the cached pages and their entries.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).bytes).sum()
    }

    /// The number of lookups that found the page.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.shards.iter().map(|shard| lock(shard).hits).sum()
    }

    /// The number of lookups that did not find the page.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.shards.iter().map(|shard| lock(shard).misses).sum()
    }

    /// A new owner number, which distinguishes the pages of one file from those of others.
    pub(crate) fn register(&self) -> u64 {
        self.owners.fetch_add(1, Ordering::Relaxed)
    }

    fn shard(&self, key: Key) -> &Mutex<Shard> {
        let mixed = (key.0 ^ key.1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let count = self.shards.len();
        let at = usize::try_from(mixed).unwrap_or(0) % count;
        &self.shards[at]
    }

    pub(crate) fn lookup(&self, owner: u64, id: u64) -> Option<Page> {
        let key = (owner, id);
        let mut shard = lock(self.shard(key));
        let at = shard.index.get(&key).copied();
        let found = at.and_then(|at| shard.entries[at].as_mut()).map(|entry| {
            entry.hit = true;
            entry.page.clone()
        });
        let counter = if found.is_some() { &mut shard.hits } else { &mut shard.misses };
        *counter += 1;
        found
    }

    pub(crate) fn insert(&self, owner: u64, page: &Page) {
        let key = (owner, page.id());
        let mut shard = lock(self.shard(key));
        shard.remove(key);
        if weight(page) <= self.shard_limit {
            shard.make_room(weight(page), self.shard_limit);
            shard.insert(key, page.clone());
        }
    }

    pub(crate) fn forget(&self, owner: u64, id: u64) {
        let key = (owner, id);
        lock(self.shard(key)).remove(key);
    }

    /// Removes all pages of a closed file.
    pub(crate) fn forget_owner(&self, owner: u64) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let keys: Vec<Key> = shard.index.keys().filter(|key| key.0 == owner).copied().collect();
            for key in keys {
                shard.remove(key);
            }
        }
    }
}

#[cfg(test)]
impl PageCache {
    /// Checks the invariants of the module.
    fn check(&self) {
        for shard in &self.shards {
            let shard = lock(shard);
            let held: usize = shard.entries.iter().flatten().map(|entry| weight(&entry.page)).sum();
            assert_eq!(shard.bytes, held, "the count of bytes is right");
            assert!(held <= self.shard_limit, "the limit holds");
            assert_eq!(shard.index.len(), shard.entries.iter().flatten().count());
            for (key, at) in &shard.index {
                let entry = shard.entries[*at].as_ref().unwrap();
                assert_eq!((entry.key, entry.page.id()), (*key, key.1));
            }
        }
    }
}

#[cfg(test)]
fn page(id: u64, content: u8, len: usize) -> Page {
    use crate::page::{Item, Kind, encode};
    use bytes::Bytes;
    let item = Item::leaf(Bytes::from_static(b"k"), Bytes::from(vec![content; 8]), 0);
    let data = encode(Kind::Leaf, id, 0, [item].iter(), len);
    Page::decode(Bytes::from(data), id, u64::MAX).unwrap()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_and_used_pages_stay() {
        let cache = PageCache::new(SHARDS * 10 * (1024 + ENTRY_OVERHEAD));
        let owner = cache.register();
        for id in 2..5000 {
            cache.insert(owner, &page(id, 1, 1024));
            assert!(cache.lookup(owner, 2).is_some(), "page 2 is looked up again and again");
            cache.check();
        }
        assert!(cache.bytes() > 8 * SHARDS * 1024, "the room is used");
        assert!(cache.lookup(owner, 3).is_none(), "page 3 was evicted");
    }

    #[test]
    fn a_page_too_large_is_not_cached_and_removes_the_old_entry() {
        let cache = PageCache::new(SHARDS * 8192);
        let owner = cache.register();
        cache.insert(owner, &page(7, 1, 1024));
        cache.insert(owner, &page(7, 2, 16_384));
        assert!(cache.lookup(owner, 7).is_none());
        cache.check();
    }

    #[test]
    fn files_do_not_share_pages() {
        let cache = PageCache::new(1 << 20);
        let (one, two) = (cache.register(), cache.register());
        cache.insert(one, &page(7, 1, 1024));
        cache.insert(two, &page(7, 2, 1024));
        assert_eq!(cache.lookup(one, 7).unwrap().value(0)[0], 1);
        assert_eq!(cache.lookup(two, 7).unwrap().value(0)[0], 2);
        cache.forget_owner(one);
        assert!(cache.lookup(one, 7).is_none());
        assert!(cache.lookup(two, 7).is_some());
        assert_eq!((cache.hits(), cache.misses()), (3, 1));
        cache.check();
    }
}

// RUSTFLAGS="--cfg loom" cargo test -p bolt --lib --release
#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn a_lookup_sees_the_old_page_or_the_new_and_the_limit_holds() {
        loom::model(|| {
            // Room for two pages.
            let cache = Arc::new(PageCache::new(2 * (1024 + ENTRY_OVERHEAD)));
            cache.insert(0, &page(5, 1, 1024));
            let writer = thread::spawn({
                let cache = Arc::clone(&cache);
                move || {
                    cache.insert(0, &page(5, 2, 1024));
                    cache.insert(0, &page(6, 2, 1024));
                }
            });
            let reader = thread::spawn({
                let cache = Arc::clone(&cache);
                move || {
                    if let Some(found) = cache.lookup(0, 5) {
                        assert!([1, 2].contains(&found.value(0)[0]));
                    }
                    cache.insert(0, &page(7, 3, 1024));
                }
            });
            writer.join().unwrap();
            reader.join().unwrap();
            cache.check();
            if let Some(found) = cache.lookup(0, 5) {
                assert_eq!(found.value(0)[0], 2, "the old page is gone once it is replaced");
            }
        });
    }

    #[test]
    fn a_forgotten_page_does_not_come_back() {
        loom::model(|| {
            let cache = Arc::new(PageCache::new(4 * (1024 + ENTRY_OVERHEAD)));
            cache.insert(0, &page(5, 1, 1024));
            let other = thread::spawn({
                let cache = Arc::clone(&cache);
                move || {
                    drop(cache.lookup(0, 5));
                    cache.insert(1, &page(5, 9, 1024));
                }
            });
            cache.forget(0, 5);
            assert!(cache.lookup(0, 5).is_none());
            other.join().unwrap();
            cache.forget_owner(1);
            assert_eq!(cache.bytes(), 0);
            cache.check();
        });
    }
}

//! The keys of one node, packed into one buffer.

use std::cmp::Ordering;

/// A sorted list of keys in two allocations.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Clone for Keys {
    /// The copy has room for one or two more keys, because nodes are copied in order to be changed.
    fn clone(&self) -> Keys {
        let mean = self.bytes.len() / self.ends.len().max(1);
        let mut bytes = Vec::with_capacity(self.bytes.len() + 2 * mean);
        bytes.extend_from_slice(&self.bytes);
        let mut ends = Vec::with_capacity(self.ends.len() + 2);
        ends.extend_from_slice(&self.ends);
        Keys { bytes, ends }
    }
}

impl Keys {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The sum of the lengths of the keys in bytes.
    pub(crate) fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    fn start(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.ends[at - 1] as usize }
    }

    pub(crate) fn get(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.ends[at] as usize]
    }

    /// The place of the key, or the place to insert it.
    pub(crate) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.get(middle).cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    pub(crate) fn insert(&mut self, at: usize, key: &[u8]) {
        let len = end(key.len());
        assert!(
            self.bytes.len() + key.len() <= u32::MAX as usize,
            "the keys of a node take less than 4 GiB"
        );
        let start = self.start(at);
        reserve(&mut self.bytes, key.len(), 2 * key.len());
        if start == self.bytes.len() {
            self.bytes.extend_from_slice(key);
        } else {
            let old_len = self.bytes.len();
            self.bytes.resize(old_len + key.len(), 0);
            self.bytes.copy_within(start..old_len, start + key.len());
            self.bytes[start..start + key.len()].copy_from_slice(key);
        }
        reserve(&mut self.ends, 1, 4);
        self.ends.insert(at, end(start));
        for end in &mut self.ends[at..] {
            *end += len;
        }
    }

    pub(crate) fn remove(&mut self, at: usize) {
        let (start, behind) = (self.start(at), self.ends[at] as usize);
        self.bytes.drain(start..behind);
        self.ends.remove(at);
        let len = end(behind - start);
        for end in &mut self.ends[at..] {
            *end -= len;
        }
    }

    /// Splits off the keys from `at` on.
    pub(crate) fn split_off(&mut self, at: usize) -> Keys {
        let start = self.start(at);
        let bytes = self.bytes[start..].to_vec();
        let ends = self.ends[at..].iter().map(|old| old - end(start)).collect();
        self.bytes.truncate(start);
        self.ends.truncate(at);
        Keys { bytes, ends }
    }

    /// Appends keys that are greater than all keys here.
    pub(crate) fn append(&mut self, right: &Keys) {
        assert!(
            self.bytes.len() + right.bytes.len() <= u32::MAX as usize,
            "the keys of a node take less than 4 GiB"
        );
        let base = end(self.bytes.len());
        self.bytes.extend_from_slice(&right.bytes);
        self.ends.extend(right.ends.iter().map(|old| base + old));
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// A copy without spare capacity.
    pub(crate) fn exact(&self) -> Keys {
        Keys { bytes: self.bytes.as_slice().to_vec(), ends: self.ends.as_slice().to_vec() }
    }
}

/// Ensures capacity for `more` items. If the list must grow, it grows by `spare` items instead of
/// doubling.
pub(crate) fn reserve<T>(list: &mut Vec<T>, more: usize, spare: usize) {
    if list.capacity() - list.len() < more {
        list.reserve_exact(spare.max(more));
    }
}

fn end(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or_else(|_| panic!("the keys of a node take less than 4 GiB"))
}

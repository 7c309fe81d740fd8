//! The table of indexed fields. Its dynamic entries are shared with the requests that refer to
//! them.
//!
//! Source: RFC 7541 §2.3, §4.

use crate::field::{Field, STATIC_LEN};
use std::collections::VecDeque;

/// The fields that a block can refer to by index: the static ones, then the dynamic ones, newest
/// first.
pub(super) struct Table {
    dynamic: VecDeque<Field>,
    size: usize,
    size_max: usize,
    /// Counts the changes of the dynamic entries.
    version: u64,
}

impl Table {
    pub(super) fn new(size_max: usize) -> Table {
        Table { dynamic: VecDeque::new(), size: 0, size_max, version: 0 }
    }

    /// The field with this index, from 1.
    pub(super) fn get(&self, index: usize) -> Option<Field> {
        let place = index.checked_sub(1)?;
        match place.checked_sub(STATIC_LEN) {
            None => Field::of_static_table(place),
            Some(place) => self.dynamic.get(place).cloned(),
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Adds a field as the newest. A field that is larger than the table empties it.
    pub(super) fn add(&mut self, field: Field) {
        self.version += 1;
        let size = field.size();
        self.shrink_to(self.size_max.saturating_sub(size));
        if size <= self.size_max {
            self.size += size;
            self.dynamic.push_front(field);
        }
    }

    /// Sets the maximal size in bytes.
    pub(super) fn resize(&mut self, size_max: usize) {
        self.version += 1;
        self.size_max = size_max;
        self.shrink_to(size_max);
    }

    fn shrink_to(&mut self, size: usize) {
        while self.size > size {
            let Some(oldest) = self.dynamic.pop_back() else { return };
            self.size -= oldest.size();
        }
    }
}

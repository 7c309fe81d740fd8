//! The sizes of entries, and the check that they follow each other.

use proto::{Entry, EntryId};

/// Checks that the entries follow `base` without a gap, and that terms never decrease.
pub(crate) fn in_a_row<'a>(
    base: EntryId,
    entries: impl IntoIterator<Item = &'a Entry>,
) -> Result<(), String> {
    let mut last = base;
    for entry in entries {
        let id = entry.id();
        if last.index.0.checked_add(1) != Some(id.index.0) || id.term < last.term {
            return Err(format!(
                "entry {}/{} does not follow {}/{}",
                id.term, id.index, last.term, last.index
            ));
        }
        last = id;
    }
    Ok(())
}

/// The memory of an entry in bytes. Its data may be part of a larger shared buffer.
pub(crate) fn memory(entry: &Entry) -> usize {
    size_of::<Entry>() + entry.data.len()
}

/// The length of an encoded entry in bytes, to which etcd's limits apply.
pub(crate) fn encoded_len(entry: &Entry) -> usize {
    let varint = prost::encoding::encoded_len_varint;
    let fixed = 4 + varint(entry.term.0) + varint(entry.index.0);
    let length = entry.data.len();
    if length == 0 { fixed } else { fixed + 1 + varint(length as u64) + length }
}

//! mvcc: not written yet.

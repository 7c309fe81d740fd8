//! wal: not written yet.

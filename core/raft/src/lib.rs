//! raft: not written yet.

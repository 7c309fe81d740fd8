//! client: not written yet.

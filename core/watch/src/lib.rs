//! watch: not written yet.

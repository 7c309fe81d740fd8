//! state: not written yet.

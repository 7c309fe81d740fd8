//! bolt: not written yet.

//! v2store: not written yet.

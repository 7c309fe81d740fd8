//! embed: not written yet.

//! lease: not written yet.

//! script: not written yet.

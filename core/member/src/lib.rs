//! member: not written yet.

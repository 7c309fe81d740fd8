//! Connections as clients see them: those of the `h2` crate, and frames written by hand.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod calls;
mod closing;
mod limits;
mod opening;
mod world;

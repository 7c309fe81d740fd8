//! Members with threads, on a simulated disk.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod member;
mod members;
mod stopped;
mod threads;

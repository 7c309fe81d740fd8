//! The services over a loopback socket, in front of a small member in memory.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod fake;
mod services;
mod transport;

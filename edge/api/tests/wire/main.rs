//! The services over a loopback socket, in front of a small member in memory.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod audit;
mod connections;
mod fake;
mod held;
mod late;
mod services;
mod transport;
mod unread;

//! The services over a loopback socket, in front of a small member in memory.

mod fake;
mod services;
mod transport;

//! Hostile clients against a real server: floods, silence, and bytes that no client sends. During
//! and after each fault a light client and the health endpoints must be answered, and the server's
//! memory must stay within a bound. `overload` is more load than the machine can carry, and in `stops`
//! a thread of the server stands still.
//!
//! The clients are seeded. Bounds are in memory and in counts; the only times are the server's own
//! limits and the time after which the light client calls a request unanswered. The product does not
//! depend on this crate.

mod attack;
pub mod chaos;
pub mod faults;
pub mod http2;
pub mod light;
pub mod memory;
pub mod overload;
pub mod stops;
pub mod target;
mod upload;

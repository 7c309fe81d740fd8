//! Hostile clients against a real server: floods, silence, and invalid bytes. During and after each
//! fault the server must answer a light client and the health endpoints, and keep its memory within
//! a bound. `overload` makes more load than the machine can carry, and `stops` stops a thread of
//! the server.
//!
//! The clients are seeded. Memory and counts have bounds. The only times that matter are the
//! server's own limits, and the time after which the light client counts a request as unanswered.
//! The product does not depend on this crate.

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

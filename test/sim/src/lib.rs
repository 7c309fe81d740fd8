//! Simulation of whole members on a virtual disk, with seeded schedulers, and what must hold.

pub mod driver;
pub mod seed;
pub mod twin;
pub mod workload;

//! Simulation of whole members on a virtual disk, under seeded schedulers, and what must hold
//! whatever happens. Here so far: one member and the crashes of its machine.

pub mod check;
pub mod crash;
pub mod driver;
pub mod faults;
pub mod history;
mod lying;
pub mod plan;
mod readers;
pub mod restarts;
mod run;
pub mod seed;
pub mod twin;
pub mod workload;

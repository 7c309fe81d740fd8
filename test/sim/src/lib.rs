//! Simulation of whole members on a simulated disk, under seeded schedulers, with checks: clusters
//! with faults (`cluster`), one member and crashes of its machine (`crash`), and checkers of
//! clients' histories (`kv`).

pub mod check;
pub mod cluster;
pub mod crash;
pub mod driver;
pub mod faults;
pub mod history;
pub mod kv;
pub mod linearizable;
pub mod plan;
mod readers;
pub mod restarts;
mod run;
pub mod seed;
pub mod twin;
pub mod workload;

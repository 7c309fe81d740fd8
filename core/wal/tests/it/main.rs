//! Tests of the log as a whole, on simulated disks. With `RETCD_TESTDATA` also on real logs;
//! `RETCD_LONG` tries more.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

mod crash;
mod go_data;
mod own;
mod snap;
mod support;

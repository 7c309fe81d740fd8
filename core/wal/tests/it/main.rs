//! Tests of the log as a whole, on simulated disks. With `RETCD_TESTDATA` also on real logs;
//! `RETCD_LONG` tries more.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

mod crash;
mod failed_sync;
mod full_disk;
mod go_data;
mod model;
mod own;
mod read_back;
mod snap;
mod support;

//! server: threads, queues, the real clock and disk. Being written.

pub mod metrics;

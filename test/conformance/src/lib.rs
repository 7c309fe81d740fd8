//! Whole servers, real ones, asked the same things: ours and Go's etcd side by side
//! (`conformance`), and ours killed again and again under load (`kill9`). Here is what the two
//! programs share; nothing in the product depends on it.

#![expect(clippy::print_stderr, reason = "programs that report")]

pub mod compare;
pub mod differences;
pub mod generate;
pub mod scripts;
pub mod server;
pub mod watchers;

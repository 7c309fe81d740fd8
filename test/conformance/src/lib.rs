//! Whole servers, real ones. Ours and Go's etcd side by side are asked the same random things
//! (`conformance`), and led through fixed conversations where time or the grouping of responses
//! counts (`scripts`); ours alone is killed again and again under load (`kill9`), and has to give
//! space back under load (`space`). Here is what the programs share; nothing in the product
//! depends on it.

#![expect(clippy::print_stderr, reason = "programs that report")]

pub mod compare;
pub mod differences;
pub mod generate;
pub mod scripts;
pub mod server;
pub mod watchers;

//! Recipes over the API: sessions, mutexes, elections and transactional memory. A session is a lease that is kept alive.
//! Each contender has a key under a prefix, attached to the lease of its session, and the owner of
//! the oldest key owns the name. A contender that fails loses its place when its lease expires.
//!
//! Source: etcd v3.7.1 client/v3/concurrency.

mod election;
mod mutex;
mod place;
mod session;
mod stm;

pub use election::{Election, Observer};
pub use mutex::Mutex;
pub use session::Session;
pub use stm::{Isolation, Stm};

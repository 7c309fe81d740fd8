//! Recipes over the API: a session, which is a lease that is kept alive, and what is built on one:
//! a mutex and an election. Each contender has a key under a prefix, bound to the lease of its
//! session; the key that was created first owns the name. A contender that fails gives its place
//! away when its lease expires.
//!
//! Source: etcd v3.7.1 client/v3/concurrency.

mod election;
mod mutex;
mod place;
mod session;

pub use election::{Election, Observer};
pub use mutex::Mutex;
pub use session::Session;

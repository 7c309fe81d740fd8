//! Users, roles and permissions. [`AuthStore::permit`] checks a client's request on keys and turns
//! it into a [`Permitted`], the only form in which `mvcc` and `watch` take a request.
//! [`AuthStore::change`] and [`AuthStore::read`] execute the requests about users and roles.
//!
//! - **Invariant:** a decision depends only on the store, the caller and the request, so all
//!   members decide alike about an entry.
//!
//! Not here: passwords of clients and tokens, which are handled at the edge.
//!
//! Reading order: [`KeyRange`], [`Guarded`], [`AuthStore::permit`], then `accounts`, `change`.
//!
//! Source: etcd v3.7 server/auth/{store,range_perm_cache}.go, server/etcdserver/apply/auth.go,
//! server/storage/schema/auth*.go.

#![forbid(unsafe_code)]

mod accounts;
mod change;
mod intervals;
mod permit;
mod range;
mod refusal;
mod request;
mod store;

pub use accounts::{LoadError, Stored};
pub use change::{AuthOutcome, TokenChange};
pub use permit::{Access, Denied, Guarded, Internal, Permitted};
pub use range::KeyRange;
pub use refusal::AuthRefusal;
pub use request::Request;
pub use store::{AuthStore, Caller, Door, ROOT, Rules};

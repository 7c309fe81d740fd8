//! Who may do what. [`AuthStore::permit`] decides it and is the only way for a client's request to
//! become a [`Permitted`], the only form in which `mvcc` and `watch` take a request.
//!
//! Users and roles are not built yet: a store whose authentication is on is refused when it is
//! opened ([`LoadError::Enabled`]), because serving it unguarded would be worse than not serving
//! it. The order of the checks and what they look at are real already, see [`Rules`].
//!
//! Reading order: [`KeyRange`], [`Guarded`], [`AuthStore::permit`].
//!
//! Source: etcd v3.7 server/auth/store.go, server/etcdserver/apply/auth.go,
//! server/storage/schema/auth.go.

#![forbid(unsafe_code)]

mod permit;
mod range;
mod store;

pub use permit::{Access, Denied, Guarded, Internal, Permitted};
pub use range::KeyRange;
pub use store::{AuthStore, Caller, Door, LoadError, Rules};

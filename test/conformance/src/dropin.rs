//! One data directory that Go's etcd and ours serve in turn.
//!
//! | module | does |
//! |---|---|
//! | `program` | a server's program and its version |
//! | `access` | the calls to one member, as root if authentication is enabled |
//! | `picture` | everything that a member shows to clients, and the differences of two pictures |
//! | `contents` | the data that is written at each step |
//! | `v2_keys` | keys of the v2 API |
//! | `burst` | writes that are in flight when a member ends |
//! | `directory` | the turns on one directory |
//! | `runbook` | the commands of `docs/migrating.md` |

mod access;
mod burst;
pub mod contents;
pub mod directory;
mod picture;
pub mod program;
pub mod runbook;
mod v2_keys;

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
//! | `tool` | the command-line programs for snapshots |
//! | `snapshots` | snapshots, saved, restored and served by each other's programs |
//! | `downgrades` | directories of `go-data`, downgraded and served by the older version |
//! | `bad_snapshots` | the refusals of files that are no good snapshots |
//! | `bbolt` | the official tool that checks a database file |
//! | `runbook` | the commands of `docs/migrating.md` |

mod access;
mod bad_snapshots;
pub mod bbolt;
mod burst;
pub mod contents;
pub mod directory;
pub mod downgrades;
mod picture;
pub mod program;
pub mod runbook;
pub mod snapshots;
mod tool;
mod v2_keys;

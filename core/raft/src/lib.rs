//! Consensus: members agree on one log. A [`Node`] is the raft state machine of one member. Its
//! inputs are ticks, messages of other members, proposals and finished log writes; its output is a
//! [`Ready`]. It has no I/O, clock or randomness of its own. A cluster of one voter runs the same
//! code as any other.
//!
//! # What it does, and what it does not do yet
//! Done: elections, replication of entries, commit, configuration changes (simple and joint),
//! linearizable reads by read-index, asynchronous log writes, the limits on messages in flight.
//!
//! Not yet:
//! - Snapshots to other members. A member that needs entries that are no longer in memory gets
//!   none ([`tracker::ProgressState::Snapshot`] is never entered).
//! - Pre-vote, check-quorum and leader leases, leadership transfer. Messages of these kinds are
//!   refused ([`Message::from_pb`]).
//! - Reading entries back from the log file when they left the memory window.
//!
//! The server runs it with one voter only: no crate sends its messages to another process yet.
//! Three nodes in one process, with a network and disks that fail, are tested in
//! `tests/cluster.rs`; etcd raft's own scripts in `tests/interaction.rs`.
//!
//! Source: etcd raft v3.7; D. Ongaro, *Consensus: Bridging Theory and Practice*, 2014 ("thesis").
//!
//! # How to drive it
//! After each input, take every [`Ready`] and carry it out:
//!
//! - If `must_sync` is set, append `entries` and `hard_state` to the log file, in the order in which
//!   they are handed out, and sync it. Then return the receipt with [`Node::durable`]. The node
//!   accepts other inputs meanwhile: a leader sends entries to the others while it writes them
//!   itself. Responses to other members, this member's own vote, and commits that count its own
//!   entries come out only after `durable`.
//! - Apply `committed` in order, then call [`Node::applied`]. For a configuration change, call
//!   [`Node::apply_conf_change`] before that.
//! - Send `messages`; they may get lost. Answer `reads` once their index is applied.
//!
//! With [`Config::writes_max`] at 1, a `Ready` has no entries while a write is in flight, so the
//! entries that arrive meanwhile become one write. With more, a later write may overwrite entries of
//! an earlier one; the earlier one then makes only the entries durable that are still in the log.
//!
//! # A running example
//! One voter that starts, leads and commits:
//!
//! ```
//! use bytes::Bytes;
//! use proto::{ConfState, Index, NodeId};
//! use raft::{Config, Node, Restored, Role};
//!
//! let conf_state = ConfState { voters: vec![NodeId(1)], ..ConfState::default() };
//! let restored = Restored { conf_state, ..Restored::default() };
//! let mut node = Node::new(Config::new(NodeId(1), 7), restored)?;
//!
//! // Carries out all work, and returns the data of the applied entries.
//! fn drive(node: &mut Node) -> Vec<Bytes> {
//!     let mut applied = Vec::new();
//!     while node.has_ready() {
//!         let ready = node.ready();
//!         if let Some(receipt) = ready.receipt {
//!             // Here the entries and the hard state are written and synced.
//!             node.durable(receipt);
//!         }
//!         for entry in ready.committed {
//!             node.applied(entry.index);
//!             applied.push(entry.data);
//!         }
//!     }
//!     applied
//! }
//!
//! node.tick(); // A sole voter campaigns on its first tick.
//! assert_eq!(drive(&mut node), [Bytes::new()]); // A new leader appends an empty entry.
//! assert_eq!(node.role(), Role::Leader);
//!
//! node.propose(vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")])?;
//! node.read_index(42)?;
//! assert_eq!(drive(&mut node), ["a", "b"]);
//! assert_eq!(node.commit(), Index(3));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod confchange;
mod config;
pub mod describe;
mod election;
mod error;
mod follower;
mod leader;
mod log;
mod message;
mod node;
mod output;
pub mod quorum;
mod read;
mod reads;
mod ready;
mod step;
pub mod tracker;

pub use confchange::{ConfChanges, SingleChange};
pub use config::{Config, LOG_WINDOW_BYTES_MAX, Restored};
pub use error::{DroppedRequest, Error};
pub use message::{Body, Message};
pub use node::{Node, Proposed};
pub use output::{Ready, Receipt, Role, SoftState};
pub use reads::Read;

//! Consensus: how members agree on one log. A [`Node`] is one member's part in it, a state machine
//! that does nothing by itself: ticks, messages of other members, requests and finished writes come
//! in, and a [`Ready`] comes out. One voter is a case of it, not another path. Here are elections,
//! commit, configuration changes (joint ones too), linearizable reads, and replication in its plain
//! form. Not here: disks, networks and clocks; snapshots to other members, pre-votes, leases and
//! leadership transfers, of which messages are refused.
//!
//! Source: etcd raft v3.7; the thesis is D. Ongaro, *Consensus: Bridging Theory and Practice*, 2014.
//!
//! # How to drive it
//! Whenever something has come in, take each [`Ready`] and carry it out:
//!
//! - `entries` and `hard_state` go to the log file when `must_sync` says so, in the order in which
//!   they were handed out. When they are synced, [`Node::durable`] gets the receipt, at any time and
//!   from wherever. Meanwhile the node goes on: other members get their entries while this one's
//!   are being written. What must wait for the disk comes out only after `durable`: answers to
//!   other members, this member's own vote, and the commit that counts its own entries.
//! - `committed` is applied in this order, and then reported with [`Node::applied`]. Configuration
//!   changes go to [`Node::apply_conf_change`] before that.
//! - `messages` are sent, and may get lost. `reads` are answered when their index is applied.
//!
//! With [`Config::writes_max`] at 1, a `Ready` has no entries while a write is under way, so that
//! the entries that come meanwhile make one write together. With more, a write can be overtaken by
//! one that overwrites its entries; its completion then counts only for what is still so.
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
//! // Carries out everything there is to do, and says what was applied.
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
//! assert_eq!(drive(&mut node), [Bytes::new()]); // A leader begins with an empty entry.
//! assert_eq!(node.role(), Role::Leader);
//!
//! node.propose(vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")])?;
//! node.read_index(42)?;
//! assert_eq!(drive(&mut node), ["a", "b"]);
//! assert_eq!(node.commit(), Index(3));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `tests/cluster.rs` runs three nodes in memory with a network and disks that misbehave.

pub mod confchange;
pub mod describe;
mod election;
mod error;
mod follower;
mod leader;
mod log;
mod message;
mod node;
pub mod quorum;
mod random;
mod read;
mod ready;
mod step;
pub mod tracker;

pub use confchange::{Change, Changes};
pub use error::{Dropped, Error};
pub use message::{Body, Message};
pub use node::{Config, LOG_WINDOW_BYTES_MAX, Node, Proposed, Restored, Role};
pub use read::Read;
pub use ready::{Ready, Receipt, SoftState};

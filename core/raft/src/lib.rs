//! Consensus: members agree on one log. A [`Node`] is the raft state machine of one member. Its
//! inputs are ticks, messages of other members, proposals and finished log writes; its output is a
//! [`Ready`]. It has no I/O, clock or randomness of its own. A cluster of one voter runs the same
//! code as any other.
//!
//! It does what etcd's raft does: elections with pre-vote and check-quorum, replication with flow
//! control, snapshots, learners, simple and joint configuration changes, leadership transfer,
//! linearizable reads by a quorum or a lease, asynchronous log writes. [`Config`] has a switch for
//! each optional part. etcd raft's own scripts are run in `tests/interaction.rs`; nodes with a
//! network and disks that fail in `tests/cluster.rs`.
//!
//! Not here: the network (`peer`), files (`wal`), and the state machine (`state`).
//!
//! Source: etcd raft v3.7; D. Ongaro, *Consensus: Bridging Theory and Practice*, 2014 ("thesis").
//!
//! # How to drive it
//! After each input, take every [`Ready`] and carry it out:
//!
//! - If there is a `write` with `must_sync`, append its hard state, snapshot and entries to the log
//!   file, in the order in which writes are handed out, and sync it. The node accepts other inputs
//!   meanwhile: a leader sends entries to the others while it writes them itself. When this write
//!   and all before it are durable, carry out [`LogWrite::after`]: send the messages to other
//!   members, and give those to this member itself to [`Node::step_own`], in their order.
//!   Responses to other members, vote requests, this member's own vote and its own entries come
//!   this way.
//! - Apply `committed` in order, then call [`Node::applied`]. For a configuration change, call
//!   [`Node::apply_conf_change`] before that.
//! - Send `messages`; they may get lost. Answer `reads` once their index is applied.
//! - Answer each of `log_reads` with [`Node::log_read`]. If `wants_snapshot` is set, take a snapshot
//!   of the state and pass it to [`Node::set_snapshot`].
//!
//! A caller that takes no write while one is in flight ([`Node::ready`] without `with_write`) gets
//! the entries that arrive meanwhile as one write. With several in flight, a later write may
//! overwrite entries of an earlier one.
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
//!     while node.has_ready(true) {
//!         let ready = node.ready(true);
//!         if let Some(write) = ready.write {
//!             // Here the entries and the hard state are written and synced.
//!             for message in write.after {
//!                 // A sole voter has no messages to others.
//!                 node.step_own(message).expect("this member is in the configuration");
//!             }
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

mod check;
pub mod confchange;
mod config;
pub mod describe;
mod election;
mod error;
mod follower;
mod leader;
mod log;
mod membership;
mod message;
mod node;
mod output;
mod own;
mod proposal;
pub mod quorum;
mod read;
mod reads;
mod ready;
mod status;
mod step;
mod tick;
pub mod tracker;
mod validate;
mod wire;

pub use check::Invariants;
pub use confchange::{ConfChanges, SingleChange};
pub use config::{Config, LOG_WINDOW_BYTES_MAX, ProtocolRules, RaftLimits, ReadMode, Restored};
pub use error::{DroppedRequest, Error};
pub use message::{Body, Message, RaftSnapshot};
pub use node::Node;
pub use output::{LogPart, LogRead, LogWrite, Ready, Role, SoftState};
pub use proposal::Proposed;
pub use reads::Read;
pub use status::{MemberProgress, Status};

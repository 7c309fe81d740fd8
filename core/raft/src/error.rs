//! The errors of this crate.

use crate::confchange::Refused;
use proto::{NodeId, RaftDecodeError};
use std::fmt;

/// An error of this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Invalid settings. The operator must change them.
    Config(String),
    /// The stored state is inconsistent. The member must stop.
    Restored(String),
    /// Another member sent an invalid message. The caller drops and counts it; the log is unchanged.
    Peer {
        /// The sender.
        from: NodeId,
        /// What is wrong with it.
        what: String,
    },
    /// A response of a member that is not in the configuration. The caller drops and counts it.
    UnknownPeer {
        /// The sender.
        from: NodeId,
    },
    /// A committed configuration change is not possible. The member must stop, since other members
    /// may have applied it.
    ConfChange(Refused),
    /// Bytes that cannot be decoded.
    Decode(RaftDecodeError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config(why) => write!(f, "raft: invalid settings: {why}"),
            Error::Restored(why) => write!(f, "raft: the stored state is inconsistent: {why}"),
            Error::Peer { from, what } => write!(f, "raft: invalid message from {from:x}: {what}"),
            Error::UnknownPeer { from } => {
                write!(f, "raft: response from {from:x}, which is no member")
            }
            Error::ConfChange(why) => write!(f, "raft: cannot apply a configuration change: {why}"),
            Error::Decode(error) => write!(f, "raft: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<RaftDecodeError> for Error {
    fn from(error: RaftDecodeError) -> Error {
        Error::Decode(error)
    }
}

impl From<Refused> for Error {
    fn from(why: Refused) -> Error {
        Error::ConfChange(why)
    }
}

/// A request that was not accepted and did not change the log. The caller may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DroppedRequest {
    /// No leader is known.
    NoLeader,
    /// This member leads, but is no longer in the configuration.
    NotAMember,
    /// The leader is transferring its leadership.
    LeadershipMoves,
    /// The entries that are not applied have too many bytes ([`crate::RaftLimits::uncommitted_bytes_max`]).
    TooManyBytes,
    /// Proposals are not forwarded ([`crate::ProtocolRules::forwards_proposals`]).
    NotForwarded,
    /// Too many reads wait.
    TooManyReads,
}

impl fmt::Display for DroppedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DroppedRequest::NoLeader => "raft: no leader; dropped",
            DroppedRequest::NotAMember => "raft: not a member of the configuration; dropped",
            DroppedRequest::LeadershipMoves => "raft: the leadership moves; dropped",
            DroppedRequest::TooManyBytes => "raft: too many bytes are not applied; dropped",
            DroppedRequest::NotForwarded => "raft: proposals are not forwarded; dropped",
            DroppedRequest::TooManyReads => "raft: too many reads wait; dropped",
        })
    }
}

impl std::error::Error for DroppedRequest {}

//! What can go wrong, sorted by who has to act.

use crate::confchange::Refused;
use proto::{NodeId, RaftDecodeError};
use std::fmt;

/// An error of this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The settings make no sense: the operator acts.
    Config(String),
    /// What was read from disk does not fit together: stop.
    Restored(String),
    /// A peer sent something that no correct member sends: count it and drop it. The log is as it
    /// was.
    Peer {
        /// Who sent it.
        from: NodeId,
        /// What is wrong with it.
        what: String,
    },
    /// A committed configuration change cannot be made: stop, for others may have made it.
    ConfChange(Refused),
    /// Bytes that are not what they should be.
    Decode(RaftDecodeError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config(why) => write!(f, "raft: bad settings: {why}"),
            Error::Restored(why) => write!(f, "raft: the stored state does not fit: {why}"),
            Error::Peer { from, what } => write!(f, "raft: bad message from {from:x}: {what}"),
            Error::ConfChange(why) => write!(f, "raft: cannot change the configuration: {why}"),
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

/// A request that came to nothing; the caller may try again. It has left no trace in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DroppedRequest {
    /// Nobody leads at the moment.
    NoLeader,
    /// This member leads, but is no part of the configuration any more.
    NotAMember,
    /// Too many reads wait already.
    TooManyReads,
}

impl fmt::Display for DroppedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DroppedRequest::NoLeader => "raft: no leader; dropped",
            DroppedRequest::NotAMember => "raft: not a member of the configuration; dropped",
            DroppedRequest::TooManyReads => "raft: too many reads wait; dropped",
        })
    }
}

impl std::error::Error for DroppedRequest {}

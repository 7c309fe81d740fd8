//! Why a committed entry changed nothing: the deterministic half of all errors. Every member
//! that applies the entry says the same, so a rejection is the entry's result and never a
//! reason to stop. Texts and gRPC codes are not here: `rpc` has the one table of them.

/// A result that says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reject {
    /// The revision is older than the oldest kept one.
    Compacted,
    /// The revision is newer than the newest one.
    FutureRevision,
    /// There is no such lease.
    LeaseNotFound,
    /// A lease with this id is there already.
    LeaseExists,
    /// The TTL is above the maximum.
    LeaseTtlTooLarge,
    /// `ignore_value` or `ignore_lease` for a key that is not there, or an empty operation.
    KeyNotFound,
    /// The quota is exceeded, or the NOSPACE alarm is on.
    NoSpace,
    /// The CORRUPT alarm is on.
    Corrupt,
    /// A member with this id was removed before.
    MemberRemoved,
    /// A member with this id is there already.
    MemberExists,
    /// Another member has one of these peer URLs.
    PeerUrlExists,
    /// There is no such member.
    MemberNotFound,
    /// The member to be promoted is no learner.
    NotLearner,
    /// There are as many learners as there may be.
    TooManyLearners,
    /// The caller may not do it.
    Denied(auth::Denied),
    /// The request needs a part of the server that is not built yet; the sentence says which.
    NotBuilt(&'static str),
}

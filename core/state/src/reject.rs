//! The errors that are the result of a committed entry. Every member that applies the entry gets
//! the same error, so it is never a reason to stop. The texts and gRPC codes are in `rpc`.

/// Why an entry was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reject {
    /// The revision is older than the oldest kept one.
    Compacted,
    /// The revision is newer than the newest one.
    FutureRevision,
    /// There is no such lease.
    LeaseNotFound,
    /// A lease with this id exists already.
    LeaseExists,
    /// The TTL is above the maximum.
    LeaseTtlTooLarge,
    /// `ignore_value` or `ignore_lease` for a key that does not exist, or an empty operation.
    KeyNotFound,
    /// The quota is exceeded, or the NOSPACE alarm is on.
    NoSpace,
    /// The CORRUPT alarm is on.
    Corrupt,
    /// A member with this id was removed before.
    MemberRemoved,
    /// A member with this id exists already.
    MemberExists,
    /// Another member has one of these peer URLs.
    PeerUrlExists,
    /// There is no such member.
    MemberNotFound,
    /// The member to be promoted is not a learner.
    NotLearner,
    /// The limit of learners is reached.
    TooManyLearners,
    /// The caller has no permission.
    Denied(auth::Denied),
    /// A request about users and roles is refused.
    Auth(auth::AuthRefusal),
}

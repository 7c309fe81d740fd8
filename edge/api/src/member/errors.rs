//! Conversion of errors of the server and the store to etcd's.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3rpc/util.go.

use auth::{AuthRefusal, Denied};
use cluster::{InvalidDowngrade, UnsafeChange};
use rpc::{Code, Error, Status};
use server::Error as ServerError;
use state::Reject;

/// The status of a server error.
#[must_use]
pub fn status_of(error: ServerError) -> Status {
    match error {
        ServerError::Rejected(reject) => status_of_reject(&reject),
        ServerError::TooManyRequests => Error::TooManyRequests.into(),
        ServerError::RequestTooLarge => Error::RequestTooLarge.into(),
        ServerError::Timeout => Error::Timeout.into(),
        ServerError::TimeoutLeaderFail => Error::TimeoutDueToLeaderFail.into(),
        ServerError::TimeoutConnectionLost => Error::TimeoutDueToConnectionLost.into(),
        ServerError::NoLeader => Error::NoLeader.into(),
        ServerError::NotLeader => Error::NotLeader.into(),
        // etcd has no gRPC code for it.
        ServerError::NotPrimary => Status::new(Code::Unknown, error.to_string()),
        ServerError::NotApplied => Error::TimeoutWaitAppliedIndex.into(),
        ServerError::Unsafe(change) => match change {
            UnsafeChange::NotEnoughStarted => Error::MemberNotEnoughStarted,
            UnsafeChange::Unhealthy => Error::Unhealthy,
            UnsafeChange::LearnerNotReady => Error::LearnerNotReady,
        }
        .into(),
        ServerError::Downgrade(invalid) => match invalid {
            InvalidDowngrade::Format => Error::WrongDowngradeVersionFormat,
            InvalidDowngrade::Target => Error::InvalidDowngradeTargetVersion,
            InvalidDowngrade::VersionUnavailable => Error::ClusterVersionUnavailable,
            InvalidDowngrade::InProcess => Error::DowngradeInProcess,
            InvalidDowngrade::NoneInflight => Error::NoInflightDowngrade,
        }
        .into(),
        ServerError::BadTransferee => Error::BadLeaderTransferee.into(),
        ServerError::TransferTimeout => Error::TimeoutLeaderTransfer.into(),
        ServerError::Stopped => Error::Stopped.into(),
        ServerError::Store(why) => Status::new(Code::Unknown, why),
    }
}

/// The status when the store cannot be read.
pub(super) fn store_status(error: &mvcc::Error) -> Status {
    tracing::error!(%error, "cannot read the store");
    Status::new(Code::Unknown, error.to_string())
}

/// The status when a revision cannot be read.
pub(super) fn revision_status(reject: mvcc::RequestError) -> Status {
    status_of(reject.into())
}

/// The status of a request that is not permitted.
pub(super) fn denied_status(denied: Denied) -> Status {
    self::denied(denied).into()
}

/// The same as etcd's error.
pub(super) fn denied(denied: Denied) -> Error {
    match denied {
        Denied::UserEmpty => Error::UserEmpty,
        Denied::OldRevision => Error::AuthOldRevision,
        Denied::PermissionDenied => Error::PermissionDenied,
    }
}

/// The status of a refused request about users and roles.
pub(crate) fn refusal_status(refusal: AuthRefusal) -> Status {
    let error = match refusal {
        AuthRefusal::Denied(denied) => self::denied(denied),
        AuthRefusal::RootUserNotExist => Error::RootUserNotExist,
        AuthRefusal::RootRoleNotExist => Error::RootRoleNotExist,
        AuthRefusal::UserEmpty => Error::UserEmpty,
        AuthRefusal::UserAlreadyExists => Error::UserAlreadyExist,
        AuthRefusal::CallerNotFound | AuthRefusal::UserNotFound => Error::UserNotFound,
        AuthRefusal::RoleEmpty => Error::RoleEmpty,
        AuthRefusal::RoleAlreadyExists => Error::RoleAlreadyExist,
        AuthRefusal::RoleNotFound => Error::RoleNotFound,
        AuthRefusal::RoleNotGranted => Error::RoleNotGranted,
        AuthRefusal::PermissionNotGiven => Error::PermissionNotGiven,
        AuthRefusal::PermissionNotGranted => Error::PermissionNotGranted,
        AuthRefusal::NotEnabled => Error::AuthNotEnabled,
        AuthRefusal::Failed => Error::AuthFailed,
        AuthRefusal::InvalidManagement => Error::InvalidAuthMgmt,
        // etcd has no gRPC error for it.
        AuthRefusal::NoPasswordUser => return Status::new(Code::Unknown, refusal.to_string()),
    };
    error.into()
}

fn status_of_reject(reject: &Reject) -> Status {
    let error = match reject {
        Reject::Compacted => Error::Compacted,
        Reject::FutureRevision => Error::FutureRev,
        Reject::LeaseNotFound => Error::LeaseNotFound,
        Reject::LeaseExists => Error::LeaseExist,
        Reject::LeaseTtlTooLarge => Error::LeaseTtlTooLarge,
        Reject::KeyNotFound => Error::KeyNotFound,
        Reject::NoSpace => Error::NoSpace,
        Reject::Corrupt => Error::Corrupt,
        // etcd does not distinguish a removed member from one that never existed.
        Reject::MemberRemoved | Reject::MemberNotFound => Error::MemberNotFound,
        Reject::MemberExists => Error::MemberExist,
        Reject::PeerUrlExists => Error::PeerUrlExist,
        Reject::NotLearner => Error::MemberNotLearner,
        Reject::TooManyLearners => Error::TooManyLearners,
        Reject::Denied(denied) => self::denied(*denied),
        Reject::Auth(refusal) => return refusal_status(*refusal),
    };
    error.into()
}

//! The table of etcd's errors: gRPC code and exact text, which clients compare. Not here: errors of
//! gRPC itself (see [`crate::Status`]).
//!
//! Source: etcd v3.7 api/v3rpc/rpctypes/error.go, server/etcdserver/api/v3rpc/util.go.

use tonic::Code;

macro_rules! table {
    ($($(#[$doc:meta])* $name:ident $code:ident $text:literal,)*) => {
        /// An error of etcd's API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Error {
            $(
                #[doc = concat!("`", $text, "`, code ", stringify!($code), ".")]
                $(#[$doc])*
                $name,
            )*
        }

        impl Error {
            /// Every error, in the order of the table.
            pub const ALL: &[Error] = &[$(Error::$name,)*];

            /// The code of the error in etcd's client library.
            #[must_use]
            pub fn code(self) -> Code {
                match self {
                    $(Error::$name => Code::$code,)*
                }
            }

            /// The text.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self {
                    $(Error::$name => $text,)*
                }
            }
        }
    };
}

table! {
    EmptyKey InvalidArgument "etcdserver: key is not provided",
    KeyNotFound InvalidArgument "etcdserver: key not found",
    ValueProvided InvalidArgument "etcdserver: value is provided",
    LeaseProvided InvalidArgument "etcdserver: lease is provided",
    TooManyOps InvalidArgument "etcdserver: too many operations in txn request",
    DuplicateKey InvalidArgument "etcdserver: duplicate key given in txn request",
    InvalidClientApiVersion InvalidArgument "etcdserver: invalid client api version",
    InvalidSortOption InvalidArgument "etcdserver: invalid sort option",
    Compacted OutOfRange "etcdserver: mvcc: required revision has been compacted",
    FutureRev OutOfRange "etcdserver: mvcc: required revision is a future revision",
    NoSpace ResourceExhausted "etcdserver: mvcc: database space exceeded",

    LeaseNotFound NotFound "etcdserver: requested lease not found",
    LeaseExist FailedPrecondition "etcdserver: lease already exists",
    LeaseTtlTooLarge OutOfRange "etcdserver: too large lease TTL",

    WatchCanceled Cancelled "etcdserver: watch canceled",

    MemberExist FailedPrecondition "etcdserver: member ID already exist",
    PeerUrlExist FailedPrecondition "etcdserver: Peer URLs already exists",
    MemberNotEnoughStarted FailedPrecondition "etcdserver: re-configuration failed due to not enough started members",
    MemberBadUrls InvalidArgument "etcdserver: given member URLs are invalid",
    MemberNotFound NotFound "etcdserver: member not found",
    MemberNotLearner FailedPrecondition "etcdserver: can only promote a learner member",
    LearnerNotReady FailedPrecondition "etcdserver: can only promote a learner member which is in sync with leader",
    TooManyLearners FailedPrecondition "etcdserver: too many learner members in cluster",
    ClusterIdMismatch FailedPrecondition "etcdserver: cluster ID mismatch",

    RequestTooLarge InvalidArgument "etcdserver: request is too large",
    TooManyRequests ResourceExhausted "etcdserver: too many requests",

    RootUserNotExist FailedPrecondition "etcdserver: root user does not exist",
    RootRoleNotExist FailedPrecondition "etcdserver: root user does not have root role",
    UserAlreadyExist FailedPrecondition "etcdserver: user name already exists",
    UserEmpty InvalidArgument "etcdserver: user name is empty",
    UserNotFound FailedPrecondition "etcdserver: user name not found",
    RoleAlreadyExist FailedPrecondition "etcdserver: role name already exists",
    RoleNotFound FailedPrecondition "etcdserver: role name not found",
    RoleEmpty InvalidArgument "etcdserver: role name is empty",
    AuthFailed InvalidArgument "etcdserver: authentication failed, invalid user ID or password",
    PermissionNotGiven InvalidArgument "etcdserver: permission not given",
    PermissionDenied PermissionDenied "etcdserver: permission denied",
    RoleNotGranted FailedPrecondition "etcdserver: role is not granted to the user",
    PermissionNotGranted FailedPrecondition "etcdserver: permission is not granted to the role",
    AuthNotEnabled FailedPrecondition "etcdserver: authentication is not enabled",
    InvalidAuthToken Unauthenticated "etcdserver: invalid auth token",
    InvalidAuthMgmt InvalidArgument "etcdserver: invalid auth management",
    AuthOldRevision InvalidArgument "etcdserver: revision of auth store is old",

    NoLeader Unavailable "etcdserver: no leader",
    NotLeader FailedPrecondition "etcdserver: not leader",
    LeaderChanged Unavailable "etcdserver: leader changed",
    NotCapable FailedPrecondition "etcdserver: not capable",
    Stopped Unavailable "etcdserver: server stopped",
    Timeout Unavailable "etcdserver: request timed out",
    TimeoutDueToLeaderFail Unavailable "etcdserver: request timed out, possibly due to previous leader failure",
    TimeoutDueToConnectionLost Unavailable "etcdserver: request timed out, possibly due to connection lost",
    TimeoutWaitAppliedIndex Unavailable "etcdserver: request timed out, waiting for the applied index took too long",
    /// etcd does not map this error, so it is sent with the code Unknown.
    TimeoutLeaderTransfer Unknown "etcdserver: request timed out, leader transfer took too long",
    Unhealthy Unavailable "etcdserver: unhealthy cluster",
    Corrupt DataLoss "etcdserver: corrupt cluster",
    NotSupportedForLearner FailedPrecondition "etcdserver: rpc not supported for learner",
    BadLeaderTransferee FailedPrecondition "etcdserver: bad leader transferee",

    WrongDowngradeVersionFormat InvalidArgument "etcdserver: wrong downgrade target version format",
    InvalidDowngradeTargetVersion InvalidArgument "etcdserver: invalid downgrade target version",
    ClusterVersionUnavailable FailedPrecondition "etcdserver: cluster version not found during downgrade",
    DowngradeInProcess FailedPrecondition "etcdserver: cluster has a downgrade job in progress",
    NoInflightDowngrade FailedPrecondition "etcdserver: no inflight downgrade job",

    RequestCanceled Cancelled "etcdserver: request canceled",
    DeadlineExceeded DeadlineExceeded "etcdserver: context deadline exceeded",

    /// Locks and elections have no codes.
    ElectionNotLeader Unknown "election: not leader",
    /// Locks and elections have no codes.
    ElectionNoLeader Unknown "election: no leader",
    /// Locks and elections have no codes.
    LeaderFieldMissing Unknown "\"leader\" field must be provided",
}

impl Error {
    /// The code that the server sends. etcd's server passes two of the errors to gRPC as errors of
    /// its client library, which are not statuses, so gRPC sends Unknown.
    #[must_use]
    pub fn wire_code(self) -> Code {
        if matches!(self, Error::MemberNotEnoughStarted | Error::TooManyRequests) {
            return Code::Unknown;
        }
        self.code()
    }

    /// The error with this text, as a client receives it.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Error> {
        Error::ALL.iter().copied().find(|error| error.text() == text)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::code_name;
    use std::collections::BTreeSet;

    /// etcd's own list: a code, a text, and after a bar the code on the wire if it differs.
    const LIST: &str = include_str!("../testdata/errors.txt");

    #[test]
    fn the_table_is_etcds_list() {
        let line = |error: &Error| match (error.code(), error.wire_code()) {
            (code, wire) if code == wire => format!("{} {}", code_name(code), error.text()),
            (code, wire) => {
                format!("{}|{} {}", code_name(code), code_name(wire), error.text())
            }
        };
        let ours: BTreeSet<String> = Error::ALL.iter().map(line).collect();
        let theirs: BTreeSet<String> =
            LIST.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        assert_eq!(ours.len(), Error::ALL.len(), "no two errors are alike");
        assert_eq!(ours.difference(&theirs).collect::<Vec<_>>(), Vec::<&String>::new());
        assert_eq!(theirs.difference(&ours).collect::<Vec<_>>(), Vec::<&String>::new());
    }

    #[test]
    fn an_error_is_found_by_its_text() {
        for error in Error::ALL {
            assert_eq!(Error::from_text(error.text()), Some(*error));
        }
        assert_eq!(Error::from_text("etcdserver: something new"), None);
    }

    #[test]
    fn a_cancel_reason_is_gos_line() {
        assert_eq!(
            Error::PermissionDenied.go_text(),
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
        );
    }
}

//! The kinds of replicated requests, with etcd's names for them, which are labels of its metrics.
//!
//! Source: etcd v3.7 server/etcdserver/v3_server.go `getRequestType`, apply/uber_applier.go
//! `dispatch`.

use crate::etcdserverpb::InternalRaftRequest;

/// Defines the kinds from one table, in the order in which the fields of a request are checked.
macro_rules! ops {
    ($( $kind:ident = $field:ident ),* $(,)?) => {
        /// The kind of a replicated request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is the name of its request")]
        pub enum Op { $( $kind, )* Unknown }

        impl Op {
            /// All kinds. A kind is at the place of its number.
            pub const ALL: &[Op] = &[ $( Op::$kind, )* Op::Unknown ];

            /// The kind of a request: that of the field that is set.
            #[must_use]
            pub fn of(request: &InternalRaftRequest) -> Op {
                $( if request.$field.is_some() { return Op::$kind; } )*
                Op::Unknown
            }

            /// etcd's name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $( Op::$kind => stringify!($kind), )*
                    Op::Unknown => "Unknown",
                }
            }
        }
    };
}

ops! {
    Put = put,
    Txn = txn,
    Range = range,
    DeleteRange = delete_range,
    Compaction = compaction,
    LeaseGrant = lease_grant,
    LeaseRevoke = lease_revoke,
    LeaseCheckpoint = lease_checkpoint,
    Alarm = alarm,
    Authenticate = authenticate,
    AuthEnable = auth_enable,
    AuthDisable = auth_disable,
    AuthStatus = auth_status,
    AuthUserAdd = auth_user_add,
    AuthUserDelete = auth_user_delete,
    AuthUserChangePassword = auth_user_change_password,
    AuthUserGrantRole = auth_user_grant_role,
    AuthUserGet = auth_user_get,
    AuthUserRevokeRole = auth_user_revoke_role,
    AuthRoleAdd = auth_role_add,
    AuthRoleGrantPermission = auth_role_grant_permission,
    AuthRoleGet = auth_role_get,
    AuthRoleRevokePermission = auth_role_revoke_permission,
    AuthRoleDelete = auth_role_delete,
    AuthUserList = auth_user_list,
    AuthRoleList = auth_role_list,
    ClusterVersionSet = cluster_version_set,
    ClusterMemberAttrSet = cluster_member_attr_set,
    DowngradeInfoSet = downgrade_info_set,
    DowngradeVersionTest = downgrade_version_test,
}

//! The requests about users and roles, as they are in entries.

use proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGrantPermissionRequest,
    AuthRoleRevokePermissionRequest, AuthUserAddRequest, AuthUserChangePasswordRequest,
    AuthUserDeleteRequest, AuthUserGetRequest, AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest,
    InternalAuthenticateRequest, InternalRaftRequest,
};

/// A request about users and roles. In etcd, requests that only read are in the log too.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Enables authentication.
    Enable,
    /// Disables authentication.
    Disable,
    /// Whether authentication is enabled.
    Status,
    /// Assigns a token to a user whose password was verified.
    Authenticate(InternalAuthenticateRequest),
    /// Adds a user.
    UserAdd(AuthUserAddRequest),
    /// Removes a user.
    UserDelete(AuthUserDeleteRequest),
    /// The roles of a user.
    UserGet(AuthUserGetRequest),
    /// Changes a user's password.
    UserChangePassword(AuthUserChangePasswordRequest),
    /// Gives a user a role.
    UserGrantRole(AuthUserGrantRoleRequest),
    /// Takes a role away from a user.
    UserRevokeRole(AuthUserRevokeRoleRequest),
    /// All users.
    UserList,
    /// All roles.
    RoleList,
    /// Adds a role.
    RoleAdd(AuthRoleAddRequest),
    /// Removes a role, also from its users.
    RoleDelete(AuthRoleDeleteRequest),
    /// The permissions of a role.
    RoleGet(AuthRoleGetRequest),
    /// Gives a role a permission.
    RoleGrantPermission(AuthRoleGrantPermissionRequest),
    /// Takes a permission away from a role.
    RoleRevokePermission(AuthRoleRevokePermissionRequest),
}

impl Request {
    /// Takes the request out of an entry's request; `None` if that is of another kind.
    pub fn take(entry: &mut InternalRaftRequest) -> Option<Request> {
        let user = Request::take_user(entry);
        user.or_else(|| Request::take_role(entry)).or_else(|| {
            if entry.auth_enable.take().is_some() {
                Some(Request::Enable)
            } else if entry.auth_disable.take().is_some() {
                Some(Request::Disable)
            } else if entry.auth_status.take().is_some() {
                Some(Request::Status)
            } else {
                entry.authenticate.take().map(Request::Authenticate)
            }
        })
    }

    fn take_user(entry: &mut InternalRaftRequest) -> Option<Request> {
        if let Some(request) = entry.auth_user_add.take() {
            Some(Request::UserAdd(request))
        } else if let Some(request) = entry.auth_user_delete.take() {
            Some(Request::UserDelete(request))
        } else if let Some(request) = entry.auth_user_get.take() {
            Some(Request::UserGet(request))
        } else if let Some(request) = entry.auth_user_change_password.take() {
            Some(Request::UserChangePassword(request))
        } else if let Some(request) = entry.auth_user_grant_role.take() {
            Some(Request::UserGrantRole(request))
        } else if let Some(request) = entry.auth_user_revoke_role.take() {
            Some(Request::UserRevokeRole(request))
        } else {
            entry.auth_user_list.take().map(|_| Request::UserList)
        }
    }

    fn take_role(entry: &mut InternalRaftRequest) -> Option<Request> {
        if entry.auth_role_list.take().is_some() {
            Some(Request::RoleList)
        } else if let Some(request) = entry.auth_role_add.take() {
            Some(Request::RoleAdd(request))
        } else if let Some(request) = entry.auth_role_delete.take() {
            Some(Request::RoleDelete(request))
        } else if let Some(request) = entry.auth_role_get.take() {
            Some(Request::RoleGet(request))
        } else if let Some(request) = entry.auth_role_grant_permission.take() {
            Some(Request::RoleGrantPermission(request))
        } else {
            entry.auth_role_revoke_permission.take().map(Request::RoleRevokePermission)
        }
    }

    /// Whether it changes no stored data.
    #[must_use]
    pub fn is_read(&self) -> bool {
        match self {
            Request::Status
            | Request::Authenticate(_)
            | Request::UserGet(_)
            | Request::UserList
            | Request::RoleGet(_)
            | Request::RoleList => true,
            Request::Enable
            | Request::Disable
            | Request::UserAdd(_)
            | Request::UserDelete(_)
            | Request::UserChangePassword(_)
            | Request::UserGrantRole(_)
            | Request::UserRevokeRole(_)
            | Request::RoleAdd(_)
            | Request::RoleDelete(_)
            | Request::RoleGrantPermission(_)
            | Request::RoleRevokePermission(_) => false,
        }
    }

    /// Whether the request requires the role `root` when authentication is enabled. Requests to get
    /// a user or a role do not: the permission depends on the name.
    ///
    /// Source: etcd v3.7 server/etcdserver/apply/auth.go `needAdminPermission`.
    #[must_use]
    pub(crate) fn needs_admin(&self) -> bool {
        !matches!(
            self,
            Request::Status | Request::Authenticate(_) | Request::UserGet(_) | Request::RoleGet(_)
        )
    }
}

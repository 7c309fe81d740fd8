//! Why a request about users and roles is refused. The texts and gRPC codes are in `rpc`.

use crate::permit::Denied;
use std::fmt;

/// Why a request about users and roles is refused. Every member refuses it alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthRefusal {
    /// The caller has no permission for the request.
    Denied(Denied),
    /// The caller's user does not exist.
    CallerNotFound,
    /// Authentication cannot be enabled without the user `root`.
    RootUserNotExist,
    /// Authentication cannot be enabled while the user `root` does not have the role `root`.
    RootRoleNotExist,
    /// A user must have a name.
    UserEmpty,
    /// There is a user of this name.
    UserAlreadyExists,
    /// There is no user of this name.
    UserNotFound,
    /// A role must have a name.
    RoleEmpty,
    /// There is a role of this name.
    RoleAlreadyExists,
    /// There is no role of this name.
    RoleNotFound,
    /// The user does not have the role.
    RoleNotGranted,
    /// The request contains no permission.
    PermissionNotGiven,
    /// The role does not have the permission.
    PermissionNotGranted,
    /// Authentication is disabled.
    NotEnabled,
    /// There is no such user, or the password is wrong.
    Failed,
    /// The user has no password, so it cannot be authenticated with one.
    NoPasswordUser,
    /// The request would lock out all users, or the range of a permission contains no key.
    InvalidManagement,
}

impl From<Denied> for AuthRefusal {
    fn from(denied: Denied) -> AuthRefusal {
        AuthRefusal::Denied(denied)
    }
}

impl fmt::Display for AuthRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AuthRefusal::Denied(denied) => return denied.fmt(f),
            AuthRefusal::RootUserNotExist => "auth: root user does not exist",
            AuthRefusal::RootRoleNotExist => "auth: root user does not have root role",
            AuthRefusal::UserEmpty => "auth: user name is empty",
            AuthRefusal::UserAlreadyExists => "auth: user already exists",
            AuthRefusal::CallerNotFound | AuthRefusal::UserNotFound => "auth: user not found",
            AuthRefusal::RoleEmpty => "auth: role name is empty",
            AuthRefusal::RoleAlreadyExists => "auth: role already exists",
            AuthRefusal::RoleNotFound => "auth: role not found",
            AuthRefusal::RoleNotGranted => "auth: role is not granted to the user",
            AuthRefusal::PermissionNotGiven => "auth: permission not given",
            AuthRefusal::PermissionNotGranted => "auth: permission is not granted to the role",
            AuthRefusal::NotEnabled => "auth: authentication is not enabled",
            AuthRefusal::Failed => "auth: authentication failed, invalid user ID or password",
            AuthRefusal::NoPasswordUser => {
                "auth: authentication failed, password was given for no password user"
            }
            AuthRefusal::InvalidManagement => "auth: invalid auth management",
        })
    }
}

impl std::error::Error for AuthRefusal {}

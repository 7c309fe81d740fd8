//! Executes the requests about users and roles.
//!
//! Source: etcd v3.7 server/auth/store.go, server/etcdserver/apply/auth.go.

use crate::permit::Denied;
use crate::range::KeyRange;
use crate::refusal::AuthRefusal;
use crate::request::Request;
use crate::store::{AuthStore, Caller, ROOT, has_role};
use backend::{Batch, Bucket};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proto::answer::AuthAnswer;
use proto::authpb::{Permission, Role, User, UserAddOptions, permission::Type};
use proto::etcdserverpb::{
    AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AuthUserAddRequest,
    AuthUserChangePasswordRequest, AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest,
    InternalAuthenticateRequest,
};

/// The result of a request, and its effect on the tokens of clients.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthOutcome {
    /// The answer.
    pub answer: AuthAnswer,
    /// The change of the tokens, if there is one.
    pub tokens: Option<TokenChange>,
}

/// A change of the set of valid tokens. Tokens are not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenChange {
    /// A user has got a token.
    Assigned {
        /// The token.
        token: String,
        /// The user.
        user: String,
    },
    /// All tokens of this user have become invalid.
    UserGone(String),
    /// All tokens have become invalid.
    AllGone,
}

/// The parameters for the hash of a password in an entry.
#[derive(Clone, Copy, Debug)]
struct HashSource {
    index: u64,
    bcrypt_cost: u32,
}

type Done = Result<Option<TokenChange>, AuthRefusal>;

impl AuthStore {
    /// Executes a request that changes no stored data. `index` is the index of its entry.
    ///
    /// # Errors
    /// When the request is refused.
    ///
    /// # Panics
    /// If the request [changes](Request::is_read) something.
    pub fn read(
        &self,
        caller: &Caller,
        request: &Request,
        index: u64,
    ) -> Result<AuthOutcome, AuthRefusal> {
        if request.needs_admin() {
            self.permit_admin(caller)?;
        }
        let answer = match request {
            Request::Status => {
                AuthAnswer::Status { enabled: self.enabled, revision: self.revision }
            }
            Request::Authenticate(request) => return self.authenticate(request, index),
            Request::UserGet(request) => {
                if request.name != caller.user {
                    self.permit_admin(caller)?;
                }
                let user = self.accounts.user(&request.name).ok_or(AuthRefusal::UserNotFound)?;
                AuthAnswer::UserRoles(user.roles.clone())
            }
            Request::RoleGet(request) => {
                let own = self.accounts.user(&caller.user);
                if !own.is_some_and(|user| has_role(user, &request.role)) {
                    self.permit_admin(caller)?;
                }
                let role = self.accounts.role(&request.role).ok_or(AuthRefusal::RoleNotFound)?;
                AuthAnswer::Permissions(if request.role == ROOT {
                    vec![root_permission()]
                } else {
                    role.key_permission.clone()
                })
            }
            Request::UserList => AuthAnswer::Users(self.accounts.user_names().cloned().collect()),
            Request::RoleList => AuthAnswer::Roles(self.accounts.role_names().cloned().collect()),
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
            | Request::RoleRevokePermission(_) => unreachable!("{request:?} changes something"),
        };
        Ok(AuthOutcome { answer, tokens: None })
    }

    /// Assigns a token. The password was checked before the entry was proposed; if the store has
    /// changed since, the proposer repeats the request.
    fn authenticate(
        &self,
        request: &InternalAuthenticateRequest,
        index: u64,
    ) -> Result<AuthOutcome, AuthRefusal> {
        if !self.enabled {
            return Err(AuthRefusal::NotEnabled);
        }
        let user = self.accounts.user(&request.name).ok_or(AuthRefusal::Failed)?;
        if has_no_password(user) {
            return Err(AuthRefusal::Failed);
        }
        // In etcd, the token contains the index before this entry, since etcd updates its index
        // after it has applied an entry.
        let token = format!("{}.{}", request.simple_token, index.saturating_sub(1));
        let tokens = (!request.simple_token.is_empty())
            .then(|| TokenChange::Assigned { token: token.clone(), user: request.name.clone() });
        let answer = AuthAnswer::Authenticated { token, revision: self.revision };
        Ok(AuthOutcome { answer, tokens })
    }

    /// Executes a request that changes stored data, and writes the change to the batch. `index` is
    /// the index of its entry. `bcrypt_cost` is used only for entries of etcd 3.4, which contain
    /// passwords.
    ///
    /// # Errors
    /// When the request is refused. Then nothing is changed.
    pub fn change(
        &mut self,
        caller: &Caller,
        request: Request,
        (index, bcrypt_cost): (u64, u32),
        batch: &mut Batch,
    ) -> Result<AuthOutcome, AuthRefusal> {
        if request.is_read() {
            return self.read(caller, &request, index);
        }
        if request.needs_admin() {
            self.permit_admin(caller)?;
        }
        let entry = HashSource { index, bcrypt_cost };
        let tokens = self.carry_out(request, entry, batch)?;
        Ok(AuthOutcome { answer: AuthAnswer::Done, tokens })
    }

    fn carry_out(&mut self, request: Request, entry: HashSource, batch: &mut Batch) -> Done {
        match request {
            Request::Enable => self.enable(batch),
            Request::Disable => Ok(self.disable(batch)),
            Request::UserAdd(request) => self.user_add(request, entry, batch),
            Request::UserDelete(request) => self.user_delete(&request.name, batch),
            Request::UserChangePassword(request) => self.change_password(&request, entry, batch),
            Request::UserGrantRole(request) => self.user_grant(&request, batch),
            Request::UserRevokeRole(request) => self.user_revoke(&request, batch),
            Request::RoleAdd(request) => self.role_add(&request.name, batch),
            Request::RoleDelete(request) => self.role_delete(&request.role, batch),
            Request::RoleGrantPermission(request) => self.role_grant(request, batch),
            Request::RoleRevokePermission(request) => self.role_revoke(&request, batch),
            Request::Status
            | Request::Authenticate(_)
            | Request::UserGet(_)
            | Request::UserList
            | Request::RoleGet(_)
            | Request::RoleList => unreachable!("a read"),
        }
    }

    /// Raises the revision. Every change of users and roles does so, so that requests that were
    /// authenticated before it are checked again.
    fn raise_revision(&mut self, batch: &mut Batch) {
        self.revision += 1;
        let revision = Bytes::copy_from_slice(&self.revision.to_be_bytes());
        batch.put(Bucket::Auth, Bytes::from_static(AuthStore::REVISION_KEY), revision);
    }

    fn set_enabled(&mut self, enabled: bool, batch: &mut Batch) {
        self.enabled = enabled;
        let flag = Bytes::copy_from_slice(&[u8::from(enabled)]);
        batch.put(Bucket::Auth, Bytes::from_static(AuthStore::ENABLED_KEY), flag);
    }

    fn enable(&mut self, batch: &mut Batch) -> Done {
        if self.enabled {
            return Ok(None);
        }
        let root = self.accounts.user(ROOT).ok_or(AuthRefusal::RootUserNotExist)?;
        if !has_role(root, ROOT) {
            return Err(AuthRefusal::RootRoleNotExist);
        }
        self.set_enabled(true, batch);
        tracing::info!("enabled authentication");
        Ok(None)
    }

    fn disable(&mut self, batch: &mut Batch) -> Option<TokenChange> {
        if !self.enabled {
            return None;
        }
        self.set_enabled(false, batch);
        self.raise_revision(batch);
        tracing::info!("disabled authentication");
        Some(TokenChange::AllGone)
    }

    fn user_add(
        &mut self,
        request: AuthUserAddRequest,
        entry: HashSource,
        batch: &mut Batch,
    ) -> Done {
        if request.name.is_empty() {
            return Err(AuthRefusal::UserEmpty);
        }
        if self.accounts.user(&request.name).is_some() {
            return Err(AuthRefusal::UserAlreadyExists);
        }
        let options = request.options.unwrap_or_default();
        let password = if options.no_password {
            Bytes::new()
        } else {
            stored_password(&request.name, &request.password, &request.hashed_password, entry)?
        };
        let user = User {
            name: Bytes::from(request.name.clone()),
            password,
            roles: Vec::new(),
            options: Some(UserAddOptions { no_password: options.no_password }),
        };
        self.accounts.put_user(&request.name, user, batch);
        self.raise_revision(batch);
        tracing::info!(user = request.name, "added a user");
        Ok(None)
    }

    fn user_delete(&mut self, name: &str, batch: &mut Batch) -> Done {
        if self.enabled && name == ROOT {
            return Err(AuthRefusal::InvalidManagement);
        }
        self.accounts.user(name).ok_or(AuthRefusal::UserNotFound)?;
        self.accounts.delete_user(name, batch);
        self.raise_revision(batch);
        tracing::info!(user = name, "deleted a user");
        Ok(Some(TokenChange::UserGone(name.to_owned())))
    }

    fn change_password(
        &mut self,
        request: &AuthUserChangePasswordRequest,
        entry: HashSource,
        batch: &mut Batch,
    ) -> Done {
        let name = &request.name;
        let user = self.accounts.user(name).ok_or(AuthRefusal::UserNotFound)?;
        let password = if has_no_password(user) {
            Bytes::new()
        } else {
            stored_password(name, &request.password, &request.hashed_password, entry)?
        };
        let user = User { password, ..user.clone() };
        self.accounts.put_user(name, user, batch);
        self.raise_revision(batch);
        tracing::info!(user = name, "changed a password of a user");
        Ok(Some(TokenChange::UserGone(name.clone())))
    }

    fn user_grant(&mut self, request: &AuthUserGrantRoleRequest, batch: &mut Batch) -> Done {
        let mut user = self.accounts.user(&request.user).ok_or(AuthRefusal::UserNotFound)?.clone();
        // The role `root` need not exist in the store.
        if request.role != ROOT && self.accounts.role(&request.role).is_none() {
            return Err(AuthRefusal::RoleNotFound);
        }
        if has_role(&user, &request.role) {
            return Ok(None);
        }
        user.roles.push(request.role.clone());
        user.roles.sort();
        self.accounts.put_user(&request.user, user, batch);
        self.raise_revision(batch);
        tracing::info!(user = request.user, role = request.role, "granted a role to a user");
        Ok(None)
    }

    fn user_revoke(&mut self, request: &AuthUserRevokeRoleRequest, batch: &mut Batch) -> Done {
        if self.enabled && request.name == ROOT && request.role == ROOT {
            return Err(AuthRefusal::InvalidManagement);
        }
        let mut user = self.accounts.user(&request.name).ok_or(AuthRefusal::UserNotFound)?.clone();
        if !has_role(&user, &request.role) {
            return Err(AuthRefusal::RoleNotGranted);
        }
        user.roles.retain(|role| *role != request.role);
        self.accounts.put_user(&request.name, user, batch);
        self.raise_revision(batch);
        tracing::info!(user = request.name, role = request.role, "revoked a role from a user");
        Ok(None)
    }

    fn role_add(&mut self, name: &str, batch: &mut Batch) -> Done {
        if name.is_empty() {
            return Err(AuthRefusal::RoleEmpty);
        }
        if self.accounts.role(name).is_some() {
            return Err(AuthRefusal::RoleAlreadyExists);
        }
        let role =
            Role { name: Bytes::copy_from_slice(name.as_bytes()), key_permission: Vec::new() };
        self.accounts.put_role(name, role, batch);
        self.raise_revision(batch);
        tracing::info!(role = name, "created a role");
        Ok(None)
    }

    fn role_delete(&mut self, name: &str, batch: &mut Batch) -> Done {
        if self.enabled && name == ROOT {
            return Err(AuthRefusal::InvalidManagement);
        }
        self.accounts.role(name).ok_or(AuthRefusal::RoleNotFound)?;
        self.accounts.delete_role(name, batch);
        for (user_name, mut user) in self.accounts.users_with(name) {
            user.roles.retain(|role| role != name);
            self.accounts.put_user(&user_name, user, batch);
        }
        self.raise_revision(batch);
        tracing::info!(role = name, "deleted a role");
        Ok(None)
    }

    fn role_grant(&mut self, request: AuthRoleGrantPermissionRequest, batch: &mut Batch) -> Done {
        let permission = request.perm.ok_or(AuthRefusal::PermissionNotGiven)?;
        if !has_keys(&permission) {
            return Err(AuthRefusal::InvalidManagement);
        }
        let mut role = self.accounts.role(&request.name).ok_or(AuthRefusal::RoleNotFound)?.clone();
        let granted = &mut role.key_permission;
        // Like etcd, this looks only at the first permission of the key. The permissions of one key
        // are in the order in which they were granted.
        let first = granted.partition_point(|one| one.key < permission.key);
        match granted.get_mut(first) {
            Some(one) if one.key == permission.key && one.range_end == permission.range_end => {
                one.perm_type = permission.perm_type;
            }
            Some(_) | None => {
                granted.push(permission);
                granted.sort_by(|a, b| a.key.cmp(&b.key));
            }
        }
        self.accounts.put_role(&request.name, role, batch);
        self.raise_revision(batch);
        tracing::info!(role = request.name, "granted a permission to a role");
        Ok(None)
    }

    fn role_revoke(
        &mut self,
        request: &AuthRoleRevokePermissionRequest,
        batch: &mut Batch,
    ) -> Done {
        let mut role = self.accounts.role(&request.role).ok_or(AuthRefusal::RoleNotFound)?.clone();
        let before = role.key_permission.len();
        role.key_permission
            .retain(|one| one.key != request.key || one.range_end != request.range_end);
        if role.key_permission.len() == before {
            return Err(AuthRefusal::PermissionNotGranted);
        }
        self.accounts.put_role(&request.role, role, batch);
        self.raise_revision(batch);
        tracing::info!(role = request.role, "revoked a permission of a role");
        Ok(None)
    }

    /// The user whose password is to be checked.
    ///
    /// # Errors
    /// When authentication is disabled, there is no such user, or it has no password.
    pub fn password_of(&self, name: &str) -> Result<&User, AuthRefusal> {
        if !self.enabled {
            return Err(AuthRefusal::NotEnabled);
        }
        let user = self.accounts.user(name).ok_or(AuthRefusal::Failed)?;
        if has_no_password(user) { Err(AuthRefusal::NoPasswordUser) } else { Ok(user) }
    }

    /// Checks that the caller has a user, which is enough for some requests.
    ///
    /// # Errors
    /// [`Denied::UserEmpty`].
    pub fn permit_user(&self, caller: &Caller) -> Result<(), Denied> {
        if self.enabled && caller.auth_revision == 0 { Err(Denied::UserEmpty) } else { Ok(()) }
    }
}

fn has_no_password(user: &User) -> bool {
    user.options.as_ref().is_some_and(|options| options.no_password)
}

/// The permission that is shown for the role `root`.
fn root_permission() -> Permission {
    Permission {
        perm_type: Type::Readwrite.into(),
        key: Bytes::new(),
        range_end: Bytes::from_static(&[0]),
    }
}

/// Whether the range of a permission can contain keys.
///
/// Source: etcd v3.7 server/auth/range_perm_cache.go `isValidPermissionRange`.
fn has_keys(permission: &Permission) -> bool {
    let range = KeyRange::of_request(permission.key.clone(), permission.range_end.clone());
    match range {
        _ if permission.key.is_empty() => false,
        KeyRange::One(_) | KeyRange::Span { end: None, .. } => true,
        KeyRange::Span { from, end: Some(end) } => from < end,
    }
}

/// The password as it is stored: its bcrypt hash as text.
fn stored_password(
    name: &str,
    password: &str,
    hashed: &str,
    entry: HashSource,
) -> Result<Bytes, AuthRefusal> {
    if hashed.is_empty() && !password.is_empty() {
        return hash_of_legacy(name, password, entry).ok_or(AuthRefusal::NoPasswordUser);
    }
    STANDARD.decode(hashed).map(Bytes::from).map_err(|_| AuthRefusal::NoPasswordUser)
}

/// The hash of a password that an entry of etcd 3.4 contains as plain text. The salt is derived
/// from the entry, so that all members store the same hash; it is different for each password. (In
/// etcd, each member uses a random salt.)
fn hash_of_legacy(name: &str, password: &str, entry: HashSource) -> Option<Bytes> {
    let mut salt = [0; 16];
    let name = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    salt[..8].copy_from_slice(&entry.index.to_be_bytes());
    salt[8..].copy_from_slice(&name.to_be_bytes());
    let parts = bcrypt::hash_with_salt(password, entry.bcrypt_cost, salt).ok()?;
    Some(parts.format_for_version(bcrypt::Version::TwoA).into_bytes().into())
}

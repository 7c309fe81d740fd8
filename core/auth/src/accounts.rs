//! Users and roles in memory, and their stored form: the buckets `authUsers` and `authRoles` hold
//! one protobuf message for each user and role, under its name.
//!
//! Source: etcd v3.7 server/storage/schema/{auth,auth_users,auth_roles}.go.

use crate::intervals::{Intervals, cover};
use crate::permit::Access;
use crate::range::KeyRange;
use backend::{Batch, Bucket};
use bytes::Bytes;
use prost::Message as _;
use proto::authpb::{Permission, Role, User, permission::Type};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Why a store cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The stored auth revision is not 8 bytes.
    BadRevision,
    /// The stored value of a user cannot be read.
    BadUser(Bytes),
    /// The stored value of a role cannot be read.
    BadRole(Bytes),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::BadRevision => f.write_str("the stored auth revision is not 8 bytes"),
            LoadError::BadUser(name) => {
                write!(f, "the stored user \"{}\" cannot be read", name.escape_ascii())
            }
            LoadError::BadRole(name) => {
                write!(f, "the stored role \"{}\" cannot be read", name.escape_ascii())
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// The content of the buckets `auth`, `authUsers` and `authRoles`.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// The flag in bucket `auth`.
    pub enabled: Option<Bytes>,
    /// The revision in bucket `auth`.
    pub revision: Option<Bytes>,
    /// All of `authUsers`.
    pub users: Vec<(Bytes, Bytes)>,
    /// All of `authRoles`.
    pub roles: Vec<(Bytes, Bytes)>,
}

/// A role, with its permissions prepared for checks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CheckedRole {
    pub(crate) role: Role,
    read: Intervals,
    write: Intervals,
}

impl CheckedRole {
    fn new(role: Role) -> CheckedRole {
        let ranges = |wanted: Type| {
            let of_type = move |permission: &&Permission| {
                permission.perm_type == i32::from(Type::Readwrite)
                    || permission.perm_type == i32::from(wanted)
            };
            Intervals::union(role.key_permission.iter().filter(of_type).map(|permission| {
                KeyRange::of_request(permission.key.clone(), permission.range_end.clone())
            }))
        };
        CheckedRole { read: ranges(Type::Read), write: ranges(Type::Write), role }
    }
}

/// All users and roles. A clone shares them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    users: Arc<BTreeMap<String, Arc<User>>>,
    roles: Arc<BTreeMap<String, Arc<CheckedRole>>>,
}

impl Accounts {
    pub(crate) fn load(stored: &Stored) -> Result<Accounts, LoadError> {
        let mut accounts = Accounts::default();
        let name = |key: &Bytes| String::from_utf8(key.to_vec()).ok();
        for (key, value) in &stored.users {
            let user = name(key).zip(User::decode(value.clone()).ok());
            let (name, user) = user.ok_or_else(|| LoadError::BadUser(key.clone()))?;
            Arc::make_mut(&mut accounts.users).insert(name, Arc::new(user));
        }
        for (key, value) in &stored.roles {
            let role = name(key).zip(Role::decode(value.clone()).ok());
            let (name, role) = role.ok_or_else(|| LoadError::BadRole(key.clone()))?;
            Arc::make_mut(&mut accounts.roles).insert(name, Arc::new(CheckedRole::new(role)));
        }
        Ok(accounts)
    }

    pub(crate) fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name).map(Arc::as_ref)
    }

    pub(crate) fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(name).map(|role| &role.role)
    }

    pub(crate) fn user_names(&self) -> impl Iterator<Item = &String> {
        self.users.keys()
    }

    pub(crate) fn role_names(&self) -> impl Iterator<Item = &String> {
        self.roles.keys()
    }

    /// The users that have this role.
    pub(crate) fn users_with(&self, role: &str) -> Vec<(String, User)> {
        let users = self.users.iter().filter(|(_, user)| user.roles.iter().any(|one| one == role));
        users.map(|(name, user)| (name.clone(), User::clone(user))).collect()
    }

    pub(crate) fn put_user(&mut self, name: &str, user: User, batch: &mut Batch) {
        let key = Bytes::copy_from_slice(name.as_bytes());
        batch.put(Bucket::AuthUsers, key, user.encode_to_vec().into());
        Arc::make_mut(&mut self.users).insert(name.to_owned(), Arc::new(user));
    }

    pub(crate) fn delete_user(&mut self, name: &str, batch: &mut Batch) {
        batch.delete(Bucket::AuthUsers, Bytes::copy_from_slice(name.as_bytes()));
        Arc::make_mut(&mut self.users).remove(name);
    }

    pub(crate) fn put_role(&mut self, name: &str, role: Role, batch: &mut Batch) {
        let key = Bytes::copy_from_slice(name.as_bytes());
        batch.put(Bucket::AuthRoles, key, role.encode_to_vec().into());
        Arc::make_mut(&mut self.roles).insert(name.to_owned(), Arc::new(CheckedRole::new(role)));
    }

    pub(crate) fn delete_role(&mut self, name: &str, batch: &mut Batch) {
        batch.delete(Bucket::AuthRoles, Bytes::copy_from_slice(name.as_bytes()));
        Arc::make_mut(&mut self.roles).remove(name);
    }

    /// Whether the user's roles together permit access to the whole range.
    pub(crate) fn allow(&self, user: &User, access: Access<'_>) -> bool {
        let roles = user.roles.iter().filter_map(|role| self.roles.get(role));
        match access {
            Access::Read(range) => cover(roles.map(|role| &role.read), range),
            Access::Write(range) => cover(roles.map(|role| &role.write), range),
        }
    }
}

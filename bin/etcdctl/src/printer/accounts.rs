//! Users, roles and permissions.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/printer_{simple,fields}.go.

use super::{Printed, Printer, fields, json, line};
use cli::Format;
use client::prefix_end;
use prost::Message as _;
use proto::authpb::{Permission, permission::Type};
use proto::etcdserverpb as pb;

/// A change of users and roles, as the simple format names it.
pub(crate) enum AuthChange<'a> {
    UserAdded(&'a str),
    UserDeleted(&'a str),
    PasswordChanged,
    RoleGranted { user: &'a str, role: &'a str },
    RoleRevoked { user: &'a str, role: &'a str },
    RoleAdded(&'a str),
    RoleDeleted(&'a str),
    PermissionGranted(&'a str),
    PermissionRevoked { role: &'a str, key: &'a str, range_end: &'a [u8] },
}

impl AuthChange<'_> {
    fn text(&self) -> String {
        match self {
            AuthChange::UserAdded(name) => format!("User {name} created"),
            AuthChange::UserDeleted(name) => format!("User {name} deleted"),
            AuthChange::PasswordChanged => "Password updated".to_owned(),
            AuthChange::RoleGranted { user, role } => {
                format!("Role {role} is granted to user {user}")
            }
            AuthChange::RoleRevoked { user, role } => {
                format!("Role {role} is revoked from user {user}")
            }
            AuthChange::RoleAdded(name) => format!("Role {name} created"),
            AuthChange::RoleDeleted(name) => format!("Role {name} deleted"),
            AuthChange::PermissionGranted(role) => format!("Role {role} updated"),
            AuthChange::PermissionRevoked { role, key, range_end } => match *range_end {
                [] => format!("Permission of key {key} is revoked from role {role}"),
                [0] => {
                    format!("Permission of range [{key}, <open ended> is revoked from role {role}")
                }
                end => {
                    let end = String::from_utf8_lossy(end);
                    format!("Permission of range [{key}, {end}) is revoked from role {role}")
                }
            },
        }
    }
}

/// A permission's keys as the simple format shows them.
fn range(permission: &Permission, out: &mut Vec<u8>) {
    let (key, end) = (&permission.key[..], &permission.range_end[..]);
    out.push(b'\t');
    if end.is_empty() {
        out.extend(key);
    } else {
        out.push(b'[');
        out.extend(key);
        out.extend(b", ");
        if end == [0] {
            out.extend(b"<open ended>");
        } else {
            out.extend(end);
            out.push(b')');
        }
        if !key.is_empty() && prefix_end(key) == end {
            out.extend(b" (prefix ");
            out.extend(key);
            out.push(b')');
        }
    }
    out.push(b'\n');
}

fn simple_role(name: &str, answer: &pb::AuthRoleGetResponse) -> Vec<u8> {
    let mut out = format!("Role {name}\n").into_bytes();
    let all = Permission {
        perm_type: Type::Readwrite.into(),
        range_end: bytes::Bytes::from_static(&[0]),
        ..Permission::default()
    };
    let is_whole = name == "root" && answer.perm.is_empty();
    let permissions = if is_whole { std::slice::from_ref(&all) } else { &answer.perm[..] };
    for (title, wanted) in [("KV Read:\n", Type::Read), ("KV Write:\n", Type::Write)] {
        out.extend(title.as_bytes());
        let of_type = |one: &&Permission| {
            one.perm_type == i32::from(wanted) || one.perm_type == i32::from(Type::Readwrite)
        };
        permissions.iter().filter(of_type).for_each(|one| range(one, &mut out));
    }
    out
}

fn lines(names: &[String]) -> Vec<u8> {
    names.iter().map(|name| format!("{name}\n")).collect::<String>().into_bytes()
}

impl Printer {
    pub(crate) fn auth_status(self, answer: &pb::AuthStatusResponse) -> Printed {
        match self.format {
            Format::Simple => line(format!(
                "Authentication Status: {}\nAuthRevision: {}",
                answer.enabled, answer.auth_revision
            )),
            Format::Json => line(json::auth_status(answer)),
            Format::Protobuf => Ok(answer.encode_to_vec()),
            Format::Fields | Format::Table => self.unsupported(),
        }
    }

    pub(crate) fn auth_change(
        self,
        change: &AuthChange<'_>,
        header: Option<pb::ResponseHeader>,
    ) -> Printed {
        match self.format {
            Format::Simple => line(change.text()),
            Format::Fields => Ok(fields::header(self, header.as_ref()).into_bytes()),
            Format::Json => line(json::only_header(header.as_ref())),
            // The answers to all changes have the header as their only field.
            Format::Protobuf => Ok(pb::AuthRoleAddResponse { header }.encode_to_vec()),
            Format::Table => self.unsupported(),
        }
    }

    pub(crate) fn user_get(self, name: &str, answer: &pb::AuthUserGetResponse) -> Printed {
        match self.format {
            Format::Simple => {
                let roles: String = answer.roles.iter().map(|role| format!(" {role}")).collect();
                line(format!("User: {name}\nRoles:{roles}"))
            }
            Format::Json => line(json::names(answer.header.as_ref(), "roles", &answer.roles)),
            Format::Protobuf => Ok(answer.encode_to_vec()),
            Format::Fields | Format::Table => self.unsupported(),
        }
    }

    pub(crate) fn user_list(self, answer: &pb::AuthUserListResponse) -> Printed {
        match self.format {
            Format::Simple => Ok(lines(&answer.users)),
            Format::Json => line(json::names(answer.header.as_ref(), "users", &answer.users)),
            Format::Protobuf => Ok(answer.encode_to_vec()),
            Format::Fields | Format::Table => self.unsupported(),
        }
    }

    pub(crate) fn role_list(self, answer: &pb::AuthRoleListResponse) -> Printed {
        match self.format {
            Format::Simple => Ok(lines(&answer.roles)),
            Format::Fields => {
                let mut out = fields::header(self, answer.header.as_ref());
                out.push_str("\"Roles\" :");
                for role in &answer.roles {
                    out.push_str(&format!(" {}", cli::go::quote(role.as_bytes())));
                }
                line(out)
            }
            Format::Json => line(json::names(answer.header.as_ref(), "roles", &answer.roles)),
            Format::Protobuf => Ok(answer.encode_to_vec()),
            Format::Table => self.unsupported(),
        }
    }

    pub(crate) fn role_get(self, name: &str, answer: &pb::AuthRoleGetResponse) -> Printed {
        match self.format {
            Format::Simple => Ok(simple_role(name, answer)),
            Format::Fields => {
                let mut out = fields::header(self, answer.header.as_ref());
                for one in &answer.perm {
                    let kind = Type::try_from(one.perm_type).map_or_else(
                        |_| one.perm_type.to_string(),
                        |kind| kind.as_str_name().into(),
                    );
                    out.push_str(&format!(
                        "\"PermType\" :  {kind}\n\"Key\" : {}\n\"RangeEnd\" : {}\n",
                        cli::go::quote(&one.key),
                        cli::go::quote(&one.range_end)
                    ));
                }
                Ok(out.into_bytes())
            }
            Format::Json => line(json::role(answer)),
            Format::Protobuf => Ok(answer.encode_to_vec()),
            Format::Table => self.unsupported(),
        }
    }
}

//! Runs the scripts in `testdata`: requests about users and roles, and checks of permissions after
//! them.
//!
//! Each command takes `as=USER`, by default `root` and `nobody` for no user, and `at=REVISION`, by
//! default the current one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use auth::{Access, AuthStore, Caller, Denied, Guarded, KeyRange, Request};
use backend::Batch;
use bytes::Bytes;
use proto::EntryId;
use proto::answer::AuthAnswer;
use proto::authpb::{Permission, UserAddOptions, permission::Type};
use proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGrantPermissionRequest,
    AuthRoleRevokePermissionRequest, AuthUserAddRequest, AuthUserChangePasswordRequest,
    AuthUserDeleteRequest, AuthUserGetRequest, AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest,
    InternalAuthenticateRequest,
};
use script::Case;

struct One(KeyRange, bool);

impl Guarded for One {
    fn each_access(
        &self,
        check: &mut dyn FnMut(Access<'_>) -> Result<(), Denied>,
    ) -> Result<(), Denied> {
        check(if self.1 { Access::Write(&self.0) } else { Access::Read(&self.0) })
    }
}

/// A key as scripts write it: `\0` is a zero byte, `-` is empty.
fn bytes(text: &str) -> Bytes {
    if text == "-" { Bytes::new() } else { text.replace("\\0", "\0").into() }
}

fn permission(case: &Case) -> Permission {
    let kind: String = case.word(1);
    let kind = match kind.as_str() {
        "read" => Type::Read,
        "write" => Type::Write,
        _ => Type::Readwrite,
    };
    let (key, range_end) = range(case, 2);
    Permission { perm_type: kind.into(), key, range_end }
}

fn range(case: &Case, at: usize) -> (Bytes, Bytes) {
    let words = case.words();
    (bytes(words[at]), words.get(at + 1).map_or_else(Bytes::new, |end| bytes(end)))
}

fn request(case: &Case) -> Request {
    let name = || case.word::<String>(0);
    let second = || case.word::<String>(1);
    match case.command.as_str() {
        "enable" => Request::Enable,
        "disable" => Request::Disable,
        "status" => Request::Status,
        "users" => Request::UserList,
        "roles" => Request::RoleList,
        "authenticate" => Request::Authenticate(InternalAuthenticateRequest {
            name: name(),
            simple_token: "abc".into(),
            ..Default::default()
        }),
        "user-add" => Request::UserAdd(AuthUserAddRequest {
            name: case.value("name").unwrap_or_default(),
            hashed_password: case.value("hash").unwrap_or_default(),
            password: case.value("password").unwrap_or_default(),
            options: case.has("no-password").then_some(UserAddOptions { no_password: true }),
        }),
        "user-delete" => Request::UserDelete(AuthUserDeleteRequest { name: name() }),
        "user-get" => Request::UserGet(AuthUserGetRequest { name: name() }),
        "user-passwd" => Request::UserChangePassword(AuthUserChangePasswordRequest {
            name: name(),
            hashed_password: case.value("hash").unwrap_or_default(),
            ..Default::default()
        }),
        "user-grant" => {
            Request::UserGrantRole(AuthUserGrantRoleRequest { user: name(), role: second() })
        }
        "user-revoke" => {
            Request::UserRevokeRole(AuthUserRevokeRoleRequest { name: name(), role: second() })
        }
        "role-add" => {
            Request::RoleAdd(AuthRoleAddRequest { name: case.value("name").unwrap_or_default() })
        }
        "role-delete" => Request::RoleDelete(AuthRoleDeleteRequest { role: name() }),
        "role-get" => Request::RoleGet(AuthRoleGetRequest { role: name() }),
        "role-grant" => {
            let perm = (case.words().len() > 1).then(|| permission(case));
            Request::RoleGrantPermission(AuthRoleGrantPermissionRequest { name: name(), perm })
        }
        "role-revoke" => {
            let (key, range_end) = range(case, 1);
            Request::RoleRevokePermission(AuthRoleRevokePermissionRequest {
                role: name(),
                key,
                range_end,
            })
        }
        other => panic!("unknown command {other}"),
    }
}

fn shown(answer: &AuthAnswer) -> String {
    match answer {
        AuthAnswer::Done => "ok".into(),
        AuthAnswer::Status { enabled, revision } => format!("enabled={enabled} at {revision}"),
        AuthAnswer::Authenticated { token, revision } => format!("token {token} at {revision}"),
        AuthAnswer::UserRoles(names) | AuthAnswer::Users(names) | AuthAnswer::Roles(names) => {
            names.join(" ")
        }
        AuthAnswer::Permissions(permissions) => {
            let lines = permissions.iter().map(|one| {
                let kind = Type::try_from(one.perm_type).unwrap().as_str_name();
                format!("{kind} [{}, {})", one.key.escape_ascii(), one.range_end.escape_ascii())
            });
            lines.collect::<Vec<_>>().join("\n")
        }
    }
}

fn run(case: &Case, store: &mut AuthStore, index: &mut u64) -> String {
    let user: String = case.value("as").unwrap_or_else(|| "root".into());
    let auth_revision = case.value("at").unwrap_or_else(|| store.revision());
    let caller = match user.as_str() {
        "nobody" => Caller::default(),
        _ => Caller { user, auth_revision },
    };
    let allowed =
        |denied: Option<Denied>| denied.map_or_else(|| "allowed".into(), |why| why.to_string());
    match case.command.as_str() {
        "read" | "write" => {
            let (key, end) = range(case, 0);
            let one = One(KeyRange::of_request(key, end), case.command == "write");
            return allowed(store.permit(&caller, one).err());
        }
        "admin" => {
            return store
                .permit_admin(&caller)
                .err()
                .map_or_else(|| "allowed".into(), |why| why.to_string());
        }
        "stored" => return format!("{:?}", store.user(&case.word::<String>(0)).unwrap().password),
        _ => {}
    }
    *index += 1;
    let before = store.revision();
    let mut batch = Batch::new(EntryId::default());
    match store.change(&caller, request(case), (*index, 4), &mut batch) {
        Ok(outcome) => {
            let tokens = outcome.tokens.map_or_else(String::new, |change| format!("\n{change:?}"));
            format!("{}{tokens}", shown(&outcome.answer))
        }
        Err(refusal) => {
            assert_eq!(store.revision(), before, "a refused request changes nothing");
            format!("refused: {refusal}")
        }
    }
}

#[test]
fn scripts() {
    for path in script::scripts(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata")) {
        let (mut store, mut index) = (AuthStore::disabled(), 0);
        script::run(path, |case| run(case, &mut store, &mut index));
    }
}

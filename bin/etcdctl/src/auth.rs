//! `auth …`, `user …`, `role …`.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/{auth,user,role}_command.go.

use crate::failure::{Code, CommandResult};
use crate::output;
use crate::printer::AuthChange;
use crate::session::Session;
use bytes::Bytes;
use client::{Client, Error, prefix_end};
use proto::authpb::permission::Type;
use proto::authpb::{Permission, UserAddOptions};
use proto::etcdserverpb as pb;
use std::io::Read as _;
use terminal::ask_password;

const ROOT: &str = "root";
const EXCLUSIVE: &str = "--from-key and --prefix flags are mutually exclusive";

/// The arguments, if there are exactly `N`; otherwise the failure `usage`.
fn args<const N: usize>(session: &Session, usage: &str) -> CommandResult<[String; N]> {
    <[String; N]>::try_from(session.words()).map_err(|_| Code::BadArgs.with(usage))
}

fn failed(error: Error) -> crate::failure::Failure {
    Code::Error.with(error)
}

pub(crate) async fn status(mut session: Session) -> CommandResult {
    let [] = args(&session, "auth status command does not accept any arguments")?;
    let client = session.client().await?;
    let answer = client.auth_status(pb::AuthStatusRequest {}).await.map_err(failed)?;
    output::out(&session.printer.auth_status(&answer)?);
    Ok(())
}

/// Enables authentication. If the user root does not have the role root, grants it first.
pub(crate) async fn enable(mut session: Session) -> CommandResult {
    let [] = args(&session, "auth enable command does not accept any arguments")?;
    let client = session.client().await?;
    loop {
        let Err(error) = client.auth_enable(pb::AuthEnableRequest {}).await else { break };
        if error.message() != "etcdserver: root user does not have root role" {
            return Err(failed(error));
        }
        client.role_add(pb::AuthRoleAddRequest { name: ROOT.into() }).await.map_err(failed)?;
        let grant = pb::AuthUserGrantRoleRequest { user: ROOT.into(), role: ROOT.into() };
        client.user_grant_role(grant).await.map_err(failed)?;
    }
    output::line("Authentication Enabled");
    Ok(())
}

pub(crate) async fn disable(mut session: Session) -> CommandResult {
    let [] = args(&session, "auth disable command does not accept any arguments")?;
    let client = session.client().await?;
    client.auth_disable(pb::AuthDisableRequest {}).await.map_err(failed)?;
    output::line("Authentication Disabled");
    Ok(())
}

/// The first word of the standard input.
fn word_of_input() -> String {
    let mut text = Vec::new();
    // As in Go, a read error is ignored and the bytes read so far are used.
    _ = std::io::stdin().read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

/// Asks for a new password twice.
fn new_password(name: &str) -> CommandResult<String> {
    let ask = |prompt: String| {
        let bad = |why| Code::BadArgs.with(format!("failed to ask password: {why}"));
        ask_password(&prompt).map_err(bad)
    };
    let password = ask(format!("Password of {name}: "))?;
    if password.is_empty() {
        return Err(Code::BadArgs.with("empty password"));
    }
    if ask(format!("Type password of {name} again for confirmation: "))? != password {
        return Err(Code::BadArgs.with("given passwords are different"));
    }
    Ok(password)
}

/// The password to set for a user.
fn given_password(session: &Session, name: &str) -> CommandResult<String> {
    if session.flags.bool("interactive") { new_password(name) } else { Ok(word_of_input()) }
}

pub(crate) async fn user_add(mut session: Session) -> CommandResult {
    let [name] = args(&session, "user add command requires user name as its argument")?;
    let no_password = session.flags.bool("no-password");
    let from_flag = session.flags.text("new-user-password");
    let (name, password) = if no_password {
        (name, String::new())
    } else if !from_flag.is_empty() {
        (name, from_flag)
    } else if let Some((name, password)) = name.split_once(':') {
        if name.is_empty() {
            return Err(Code::BadArgs.with("empty user name is not allowed"));
        }
        (name.to_owned(), password.to_owned())
    } else {
        let password = given_password(&session, &name)?;
        (name, password)
    };
    let client = session.client_without_timeout().await?;
    let request = pb::AuthUserAddRequest {
        name: name.clone(),
        password,
        options: Some(UserAddOptions { no_password }),
        hashed_password: String::new(),
    };
    let answer = client.user_add(request).await.map_err(failed)?;
    output::out(&session.printer.auth_change(&AuthChange::UserAdded(&name), answer.header)?);
    Ok(())
}

pub(crate) async fn user_delete(mut session: Session) -> CommandResult {
    let [name] = args(&session, "user delete command requires user name as its argument")?;
    let client = session.client_without_timeout().await?;
    let request = pb::AuthUserDeleteRequest { name: name.clone() };
    let answer = client.user_delete(request).await.map_err(failed)?;
    output::out(&session.printer.auth_change(&AuthChange::UserDeleted(&name), answer.header)?);
    Ok(())
}

async fn role(client: &Client, role: String) -> CommandResult<pb::AuthRoleGetResponse> {
    client.role_get(pb::AuthRoleGetRequest { role }).await.map_err(failed)
}

pub(crate) async fn user_get(mut session: Session) -> CommandResult {
    let [name] = args(&session, "user get command requires user name as its argument")?;
    let client = session.client_without_timeout().await?;
    let request = pb::AuthUserGetRequest { name: name.clone() };
    let answer = client.user_get(request).await.map_err(failed)?;
    if !session.flags.bool("detail") {
        output::out(&session.printer.user_get(&name, &answer)?);
        return Ok(());
    }
    output::line(&format!("User: {name}"));
    for name in answer.roles {
        output::line("");
        let answer = role(&client, name.clone()).await?;
        output::out(&session.printer.role_get(&name, &answer)?);
    }
    Ok(())
}

pub(crate) async fn user_list(mut session: Session) -> CommandResult {
    let [] = args(&session, "user list command requires no arguments")?;
    let client = session.client_without_timeout().await?;
    let answer = client.user_list(pb::AuthUserListRequest {}).await.map_err(failed)?;
    output::out(&session.printer.user_list(&answer)?);
    Ok(())
}

pub(crate) async fn user_passwd(mut session: Session) -> CommandResult {
    let [name] = args(&session, "user passwd command requires user name as its argument")?;
    let password = given_password(&session, &name)?;
    let client = session.client_without_timeout().await?;
    let hashed_password = String::new();
    let request = pb::AuthUserChangePasswordRequest { name, password, hashed_password };
    let answer = client.user_change_password(request).await.map_err(failed)?;
    output::out(&session.printer.auth_change(&AuthChange::PasswordChanged, answer.header)?);
    Ok(())
}

pub(crate) async fn user_grant_role(mut session: Session) -> CommandResult {
    let usage = "user grant command requires user name and role name as its argument";
    let [user, role] = args(&session, usage)?;
    let client = session.client_without_timeout().await?;
    let request = pb::AuthUserGrantRoleRequest { user: user.clone(), role: role.clone() };
    let answer = client.user_grant_role(request).await.map_err(failed)?;
    let change = AuthChange::RoleGranted { user: &user, role: &role };
    output::out(&session.printer.auth_change(&change, answer.header)?);
    Ok(())
}

pub(crate) async fn user_revoke_role(mut session: Session) -> CommandResult {
    let usage = "user revoke-role requires user name and role name as its argument";
    let [user, role] = args(&session, usage)?;
    let client = session.client_without_timeout().await?;
    let request = pb::AuthUserRevokeRoleRequest { name: user.clone(), role: role.clone() };
    let answer = client.user_revoke_role(request).await.map_err(failed)?;
    let change = AuthChange::RoleRevoked { user: &user, role: &role };
    output::out(&session.printer.auth_change(&change, answer.header)?);
    Ok(())
}

pub(crate) async fn role_add(mut session: Session) -> CommandResult {
    let [name] = args(&session, "role add command requires role name as its argument")?;
    let client = session.client_without_timeout().await?;
    let request = pb::AuthRoleAddRequest { name: name.clone() };
    let answer = client.role_add(request).await.map_err(failed)?;
    output::out(&session.printer.auth_change(&AuthChange::RoleAdded(&name), answer.header)?);
    Ok(())
}

pub(crate) async fn role_delete(mut session: Session) -> CommandResult {
    let [name] = args(&session, "role delete command requires role name as its argument")?;
    let client = session.client_without_timeout().await?;
    let request = pb::AuthRoleDeleteRequest { role: name.clone() };
    let answer = client.role_delete(request).await.map_err(failed)?;
    output::out(&session.printer.auth_change(&AuthChange::RoleDeleted(&name), answer.header)?);
    Ok(())
}

pub(crate) async fn role_get(mut session: Session) -> CommandResult {
    let [name] = args(&session, "role get command requires role name as its argument")?;
    let client = session.client_without_timeout().await?;
    let answer = role(&client, name.clone()).await?;
    output::out(&session.printer.role_get(&name, &answer)?);
    Ok(())
}

pub(crate) async fn role_list(mut session: Session) -> CommandResult {
    let [] = args(&session, "role list command requires no arguments")?;
    let client = session.client_without_timeout().await?;
    let answer = client.role_list(pb::AuthRoleListRequest {}).await.map_err(failed)?;
    output::out(&session.printer.role_list(&answer)?);
    Ok(())
}

/// The key and the range end of a permission.
fn permission_range(session: &Session, words: &[Vec<u8>]) -> CommandResult<(Bytes, Bytes)> {
    let (prefix, from_key) = (session.flags.bool("prefix"), session.flags.bool("from-key"));
    let open = Bytes::from_static(&[0]);
    let key = words.first().cloned().unwrap_or_default();
    let bad = |why: &str| Err(Code::BadArgs.with(why));
    if prefix && from_key && (key.is_empty() || words.len() == 1) {
        return bad(EXCLUSIVE);
    }
    if key.is_empty() {
        // All keys, or the smallest one.
        let end = if prefix || from_key { open.clone() } else { Bytes::new() };
        return Ok((open, end));
    }
    let end = match words.get(1) {
        Some(_) if prefix => return bad("unexpected endkey argument with --prefix flag"),
        Some(_) if from_key => return bad("unexpected endkey argument with --from-key flag"),
        Some(end) => end.clone().into(),
        None if prefix => prefix_end(&key).into(),
        None if from_key => open,
        None => Bytes::new(),
    };
    Ok((key.into(), end))
}

/// Parses the type of a permission in upper or lower case.
fn permission_type(word: &str) -> CommandResult<Type> {
    match word.to_uppercase().as_str() {
        "READ" => Ok(Type::Read),
        "WRITE" => Ok(Type::Write),
        "READWRITE" => Ok(Type::Readwrite),
        _ => Err(Code::BadArgs.with(format!("invalid permission type: {word}"))),
    }
}

pub(crate) async fn role_grant_permission(mut session: Session) -> CommandResult {
    let words = session.words();
    let [name, kind, _, ..] = &words[..] else {
        let usage = "role grant command requires role name, permission type, and key [endkey] as \
                     its argument";
        return Err(Code::BadArgs.with(usage));
    };
    let perm_type = permission_type(kind)?.into();
    let (key, range_end) = permission_range(&session, &session.args[2..])?;
    let client = session.client_without_timeout().await?;
    let perm = Some(Permission { perm_type, key, range_end });
    let request = pb::AuthRoleGrantPermissionRequest { name: name.clone(), perm };
    let answer = client.role_grant_permission(request).await.map_err(failed)?;
    output::out(&session.printer.auth_change(&AuthChange::PermissionGranted(name), answer.header)?);
    Ok(())
}

pub(crate) async fn role_revoke_permission(mut session: Session) -> CommandResult {
    let words = session.words();
    let [name, shown_key, ..] = &words[..] else {
        let usage =
            "role revoke-permission command requires role name and key [endkey] as its argument";
        return Err(Code::BadArgs.with(usage));
    };
    let (key, range_end) = permission_range(&session, &session.args[1..])?;
    let client = session.client_without_timeout().await?;
    let request = pb::AuthRoleRevokePermissionRequest {
        role: name.clone(),
        key,
        range_end: range_end.clone(),
    };
    let answer = client.role_revoke_permission(request).await.map_err(failed)?;
    let change =
        AuthChange::PermissionRevoked { role: name, key: shown_key, range_end: &range_end };
    output::out(&session.printer.auth_change(&change, answer.header)?);
    Ok(())
}

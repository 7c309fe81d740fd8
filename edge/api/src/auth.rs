//! The Auth service. Each request goes through the log, so that all members apply it alike. The
//! log holds hashes, not passwords, unless a member of 3.4 needs the password itself.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3rpc/auth.go, server/etcdserver/v3_server.go.

use crate::call::{Call, mismatch};
use crate::host::Host;
use proto::answer::{Answer, AuthAnswer};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::InternalRaftRequest;
use rpc::body::{Reply, encoded};
use rpc::{Error, Status};

/// Proposes a request whose response has only a header.
macro_rules! change {
    ($($name:ident $request:ident $field:ident $response:ident;)*) => {$(
        pub(crate) async fn $name<H: Host>(call: Call<H>) -> Result<Reply, Status> {
            let (service, request) = call.request(|_: &pb::$request| false).await?;
            let request =
                InternalRaftRequest { $field: Some(request), ..InternalRaftRequest::default() };
            let Answer::Auth(AuthAnswer::Done) = service.host.propose(request).await? else {
                return Err(mismatch());
            };
            Ok(encoded(&pb::$response { header: service.header() }))
        }
    )*};
}

change! {
    auth_enable AuthEnableRequest auth_enable AuthEnableResponse;
    auth_disable AuthDisableRequest auth_disable AuthDisableResponse;
    user_delete AuthUserDeleteRequest auth_user_delete AuthUserDeleteResponse;
    user_grant_role AuthUserGrantRoleRequest auth_user_grant_role AuthUserGrantRoleResponse;
    user_revoke_role AuthUserRevokeRoleRequest auth_user_revoke_role AuthUserRevokeRoleResponse;
    role_add AuthRoleAddRequest auth_role_add AuthRoleAddResponse;
    role_delete AuthRoleDeleteRequest auth_role_delete AuthRoleDeleteResponse;
    role_revoke_permission AuthRoleRevokePermissionRequest auth_role_revoke_permission
        AuthRoleRevokePermissionResponse;
}

pub(crate) async fn role_grant_permission<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, request) = call.request(|_: &pb::AuthRoleGrantPermissionRequest| false).await?;
    service.host.require_admin().await?;
    // Checked again when the entry is applied. Members of etcd before 3.4.21 panic there.
    if request.perm.is_none() {
        return Err(Error::PermissionNotGiven.into());
    }
    let request =
        InternalRaftRequest { auth_role_grant_permission: Some(request), ..Default::default() };
    let Answer::Auth(AuthAnswer::Done) = service.host.propose(request).await? else {
        return Err(mismatch());
    };
    Ok(encoded(&pb::AuthRoleGrantPermissionResponse { header: service.header() }))
}

/// Proposes a request that reads; the answer becomes the fields of the response.
macro_rules! read {
    ($($name:ident $request:ident $field:ident $response:ident
       $answer:pat => { $($to:ident: $from:expr),* };)*) => {$(
        pub(crate) async fn $name<H: Host>(call: Call<H>) -> Result<Reply, Status> {
            let (service, request) = call.request(|_: &pb::$request| false).await?;
            let request =
                InternalRaftRequest { $field: Some(request), ..InternalRaftRequest::default() };
            let Answer::Auth($answer) = service.host.propose(request).await? else {
                return Err(mismatch());
            };
            let header = service.header();
            Ok(encoded(&pb::$response { header, $($to: $from),* }))
        }
    )*};
}

read! {
    user_get AuthUserGetRequest auth_user_get AuthUserGetResponse
        AuthAnswer::UserRoles(roles) => { roles: roles };
    user_list AuthUserListRequest auth_user_list AuthUserListResponse
        AuthAnswer::Users(users) => { users: users };
    role_get AuthRoleGetRequest auth_role_get AuthRoleGetResponse
        AuthAnswer::Permissions(perm) => { perm: perm };
    role_list AuthRoleListRequest auth_role_list AuthRoleListResponse
        AuthAnswer::Roles(roles) => { roles: roles };
}

/// Reads linearizably. etcd proposes an entry instead, at which members of 3.4 crash.
pub(crate) async fn auth_status<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, _) = call.request(|_: &pb::AuthStatusRequest| false).await?;
    let (enabled, auth_revision) = service.host.auth_status().await?;
    let header = service.header();
    Ok(encoded(&pb::AuthStatusResponse { header, enabled, auth_revision }))
}

pub(crate) async fn authenticate<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, request) = call.request(|_: &pb::AuthenticateRequest| false).await?;
    let token = service.host.authenticate(request.name, request.password).await?;
    Ok(encoded(&pb::AuthenticateResponse { header: service.header(), token }))
}

pub(crate) async fn user_add<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, mut request) = call.request(|_: &pb::AuthUserAddRequest| false).await?;
    // Checked again when the entry is applied. The check here keeps clients without the role from
    // making the server hash passwords.
    service.host.require_admin().await?;
    // With `no_password` too, the password must stay out of the log.
    let password = std::mem::take(&mut request.password);
    if !request.options.is_some_and(|options| options.no_password) {
        request.hashed_password = service.host.hashed(password.clone()).await?;
        if !service.host.are_hashes_read() {
            request.password = password;
        }
    }
    let request = InternalRaftRequest { auth_user_add: Some(request), ..Default::default() };
    let Answer::Auth(AuthAnswer::Done) = service.host.propose(request).await? else {
        return Err(mismatch());
    };
    Ok(encoded(&pb::AuthUserAddResponse { header: service.header() }))
}

pub(crate) async fn user_change_password<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, mut request) =
        call.request(|_: &pb::AuthUserChangePasswordRequest| false).await?;
    service.host.require_admin().await?;
    if !request.password.is_empty() {
        let password = std::mem::take(&mut request.password);
        request.hashed_password = service.host.hashed(password.clone()).await?;
        if !service.host.are_hashes_read() {
            request.password = password;
        }
    }
    let request =
        InternalRaftRequest { auth_user_change_password: Some(request), ..Default::default() };
    let Answer::Auth(AuthAnswer::Done) = service.host.propose(request).await? else {
        return Err(mismatch());
    };
    Ok(encoded(&pb::AuthUserChangePasswordResponse { header: service.header() }))
}

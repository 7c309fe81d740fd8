//! The methods of [`Client`], one for each of etcd's RPCs.

use crate::balance::Balancer;
use crate::call::Policy::{Once, Read, Repeatable};
use crate::call::{Attempt, Client, Policy};
use crate::config::Config;
use crate::credentials::Credentials;
use crate::transport::{Network, Sockets};
use crate::{Error, Error::Config as Misused};
use proto::etcdserverpb as pb;
use proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::StreamExt as _;

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $answer:ident: $policy:ident $method:literal;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// When the response is an error, or does not come in time.
                pub async fn $name(&self, request: pb::$request) -> Result<pb::$answer, Error> {
                    self.unary(concat!("/etcdserverpb.", $method), $policy, request).await
                }
            )*
        }

        /// Whether a request of this method may be sent twice.
        pub(crate) fn policy(method: &str) -> Policy {
            match method {
                $(concat!("/etcdserverpb.", $method) => $policy,)*
                _ => Once,
            }
        }
    };
}

calls! {
    /// Reads keys.
    range(RangeRequest) -> RangeResponse: Read "KV/Range";
    /// Writes a key.
    put(PutRequest) -> PutResponse: Once "KV/Put";
    /// Deletes keys.
    delete_range(DeleteRangeRequest) -> DeleteRangeResponse: Once "KV/DeleteRange";
    /// Executes a transaction.
    txn(TxnRequest) -> TxnResponse: Once "KV/Txn";
    /// Compacts the history.
    compact(CompactionRequest) -> CompactionResponse: Once "KV/Compact";
    /// Grants a lease.
    lease_grant(LeaseGrantRequest) -> LeaseGrantResponse: Repeatable "Lease/LeaseGrant";
    /// Revokes a lease and deletes its keys.
    lease_revoke(LeaseRevokeRequest) -> LeaseRevokeResponse: Repeatable "Lease/LeaseRevoke";
    /// The remaining TTL of a lease.
    lease_time_to_live(LeaseTimeToLiveRequest) -> LeaseTimeToLiveResponse: Read "Lease/LeaseTimeToLive";
    /// All leases.
    lease_leases(LeaseLeasesRequest) -> LeaseLeasesResponse: Read "Lease/LeaseLeases";
    /// Adds a member.
    member_add(MemberAddRequest) -> MemberAddResponse: Once "Cluster/MemberAdd";
    /// Removes a member.
    member_remove(MemberRemoveRequest) -> MemberRemoveResponse: Once "Cluster/MemberRemove";
    /// Changes a member's peer URLs.
    member_update(MemberUpdateRequest) -> MemberUpdateResponse: Once "Cluster/MemberUpdate";
    /// All members.
    member_list(MemberListRequest) -> MemberListResponse: Read "Cluster/MemberList";
    /// Promotes a learner to a voter.
    member_promote(MemberPromoteRequest) -> MemberPromoteResponse: Once "Cluster/MemberPromote";
    /// Lists, raises or disarms alarms.
    alarm(AlarmRequest) -> AlarmResponse: Repeatable "Maintenance/Alarm";
    /// The status of the endpoint.
    status(StatusRequest) -> StatusResponse: Read "Maintenance/Status";
    /// Defragments the database.
    defragment(DefragmentRequest) -> DefragmentResponse: Once "Maintenance/Defragment";
    /// A hash of the whole database.
    hash(HashRequest) -> HashResponse: Read "Maintenance/Hash";
    /// A hash of the keys up to a revision.
    hash_kv(HashKvRequest) -> HashKvResponse: Read "Maintenance/HashKV";
    /// Transfers the leadership.
    move_leader(MoveLeaderRequest) -> MoveLeaderResponse: Repeatable "Maintenance/MoveLeader";
    /// Enables authentication.
    auth_enable(AuthEnableRequest) -> AuthEnableResponse: Once "Auth/AuthEnable";
    /// Disables authentication.
    auth_disable(AuthDisableRequest) -> AuthDisableResponse: Once "Auth/AuthDisable";
    /// Whether authentication is enabled.
    auth_status(AuthStatusRequest) -> AuthStatusResponse: Once "Auth/AuthStatus";
    /// Adds a user.
    user_add(AuthUserAddRequest) -> AuthUserAddResponse: Once "Auth/UserAdd";
    /// The roles of a user.
    user_get(AuthUserGetRequest) -> AuthUserGetResponse: Read "Auth/UserGet";
    /// All users.
    user_list(AuthUserListRequest) -> AuthUserListResponse: Read "Auth/UserList";
    /// Deletes a user.
    user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse: Once "Auth/UserDelete";
    /// Changes the password of a user.
    user_change_password(AuthUserChangePasswordRequest) -> AuthUserChangePasswordResponse: Once
        "Auth/UserChangePassword";
    /// Grants a role to a user.
    user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse: Once
        "Auth/UserGrantRole";
    /// Revokes a role from a user.
    user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse: Once
        "Auth/UserRevokeRole";
    /// Adds a role.
    role_add(AuthRoleAddRequest) -> AuthRoleAddResponse: Once "Auth/RoleAdd";
    /// The permissions of a role.
    role_get(AuthRoleGetRequest) -> AuthRoleGetResponse: Read "Auth/RoleGet";
    /// All roles.
    role_list(AuthRoleListRequest) -> AuthRoleListResponse: Read "Auth/RoleList";
    /// Deletes a role.
    role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse: Once "Auth/RoleDelete";
    /// Grants a permission to a role.
    role_grant_permission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse: Once
        "Auth/RoleGrantPermission";
    /// Revokes a permission from a role.
    role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse:
        Once "Auth/RoleRevokePermission";
    /// Checks, starts or ends a downgrade.
    downgrade(DowngradeRequest) -> DowngradeResponse: Once "Maintenance/Downgrade";
}

impl Client {
    /// Waits for a lock of the server's lock service, and takes it. [`Mutex`](crate::Mutex) does the
    /// same with requests of its own.
    ///
    /// # Errors
    /// When the response is an error, or does not come in time.
    pub async fn lock(&self, request: LockRequest) -> Result<LockResponse, Error> {
        self.unary("/v3lockpb.Lock/Lock", Once, request).await
    }

    /// Releases a lock of the server's lock service.
    ///
    /// # Errors
    /// When the response is an error, or does not come in time.
    pub async fn unlock(&self, request: UnlockRequest) -> Result<UnlockResponse, Error> {
        self.unary("/v3lockpb.Lock/Unlock", Once, request).await
    }

    /// A client of these servers. The first call connects; if the configuration has a name and a
    /// password, this function connects already, to exchange them for a token.
    ///
    /// # Errors
    /// When an endpoint is invalid, or the server refuses the password.
    pub async fn connect(config: Config) -> Result<Client, Error> {
        Client::connect_over(config, Arc::new(Sockets)).await
    }

    pub(crate) async fn connect_over(
        config: Config,
        network: Arc<dyn Network>,
    ) -> Result<Client, Error> {
        if config.token.is_some() && config.user.is_some() {
            return Err(Misused("username/password and token are mutually exclusive".to_string()));
        }
        let (sent, received) = (config.request_bytes_max, config.answer_bytes_max);
        if sent > received {
            return Err(Misused(format!(
                "gRPC message recv limit ({received} bytes) must be greater than send limit \
                 ({sent} bytes)"
            )));
        }
        let credentials = Credentials::new(config.user.clone(), config.token.clone());
        let dial_timeout = config.dial_timeout;
        let balancer = Arc::new(Balancer::new(config, network)?);
        let client = Client { balancer, timeout: None, credentials: Arc::new(credentials) };
        if client.credentials.user.is_some() {
            client.with_timeout(dial_timeout).renew_token().await?;
        }
        Ok(client)
    }

    /// A client with the connections of this one, and this token instead of its credentials.
    #[must_use]
    pub fn with_token(&self, token: Option<String>) -> Client {
        Client { credentials: Arc::new(Credentials::new(None, token)), ..self.clone() }
    }

    /// The same client with this timeout for each call.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        Client { timeout: Some(timeout), ..self.clone() }
    }

    /// Why there is no connection, if the last attempt to connect has failed and none has succeeded
    /// since.
    #[must_use]
    pub fn unconnected(&self) -> Option<String> {
        self.balancer.unconnected()
    }

    /// Reads keys through a stream and joins the chunks.
    ///
    /// # Errors
    /// As [`Client::range`].
    pub async fn range_stream(
        &self,
        request: pb::RangeRequest,
    ) -> Result<pb::RangeResponse, Error> {
        const METHOD: &str = "/etcdserverpb.KV/RangeStream";
        let request = &request;
        let attempt = |attempt: Attempt| async move {
            let mut whole = pb::RangeResponse::default();
            let request = self.request(tokio_stream::once(request.clone()), attempt.deadline)?;
            let mut parts = self.stream_at(METHOD, request, &attempt).await?;
            while let Some(part) = parts.next().await {
                let part: pb::RangeStreamResponse = part?;
                let Some(part) = part.range_response else { continue };
                whole.header = part.header.or(whole.header);
                whole.kvs.extend(part.kvs);
                whole.more |= part.more;
                whole.count = whole.count.max(part.count);
            }
            Ok(whole)
        };
        self.retry(METHOD, Read, attempt).await
    }
}

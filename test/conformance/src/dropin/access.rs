//! The calls to one member, as root if authentication is enabled.

use crate::cluster::Node;
use anyhow::{Context as _, Result, ensure};
use proto::etcdserverpb::{AuthenticateRequest, HashRequest, RangeRequest, StatusRequest};
use rpc::stubs::etcdserverpb::auth_client::AuthClient;
use rpc::stubs::etcdserverpb::cluster_client::ClusterClient;
use rpc::stubs::etcdserverpb::kv_client::KvClient;
use rpc::stubs::etcdserverpb::lease_client::LeaseClient;
use rpc::stubs::etcdserverpb::maintenance_client::MaintenanceClient;
use std::time::{Duration, Instant};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// The name and the password of a user.
pub(super) type Login = (&'static str, &'static str);

/// The root user of the contents that are written here.
pub(super) const ROOT: Login = ("root", "root's password");
/// How long a member may take until it serves.
const SERVED_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Adds the token, if there is one.
#[derive(Clone, Debug, Default)]
pub(super) struct Token(Option<MetadataValue<Ascii>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

/// A connection with a token.
type Guarded = InterceptedService<Channel, Token>;

/// The clients of each service.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) kv: KvClient<Guarded>,
    pub(super) lease: LeaseClient<Guarded>,
    pub(super) cluster: ClusterClient<Guarded>,
    pub(super) maintenance: MaintenanceClient<Guarded>,
    pub(super) auth: AuthClient<Guarded>,
}

impl Access {
    /// Calls without a user.
    pub(super) fn open(channel: Channel) -> Access {
        Access::with(channel, Token::default())
    }

    /// Calls as this user.
    pub(super) async fn log_in(channel: Channel, name: &str, password: &str) -> Result<Access> {
        let request = AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
        let answer = AuthClient::new(channel.clone()).authenticate(request).await?;
        let token = Token(Some(answer.into_inner().token.parse()?));
        Ok(Access::with(channel, token))
    }

    fn with(channel: Channel, token: Token) -> Access {
        let guarded = || InterceptedService::new(channel.clone(), token.clone());
        Access {
            kv: KvClient::new(guarded()).max_decoding_message_size(usize::MAX),
            lease: LeaseClient::new(guarded()),
            cluster: ClusterClient::new(guarded()),
            maintenance: MaintenanceClient::new(guarded()),
            auth: AuthClient::new(guarded()),
        }
    }

    /// Waits until a started member answers a linearizable read. Reads as root if `is_guarded`.
    pub(super) async fn served(node: &mut Node, is_guarded: bool) -> Result<Access> {
        Access::served_to(node, is_guarded.then_some(ROOT)).await
    }

    /// Waits until a started member answers this user, or anybody. A learner must answer its status
    /// only.
    pub(super) async fn served_to(node: &mut Node, login: Option<Login>) -> Result<Access> {
        let deadline = Instant::now() + SERVED_WITHIN;
        loop {
            let ended = node.exited()?;
            ensure!(
                ended.is_none(),
                "it has ended with {ended:?}; its log:\n{}",
                node.last_lines()
            );
            match Access::answered(node, login).await {
                Ok(access) => return Ok(access),
                Err(error) => ensure!(
                    Instant::now() < deadline,
                    "it does not serve: {error:#}; its log:\n{}",
                    node.last_lines()
                ),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn answered(node: &Node, login: Option<Login>) -> Result<Access> {
        let channel = node.channel()?;
        let access = match login {
            Some((name, password)) => Access::log_in(channel, name, password).await?,
            None => Access::open(channel),
        };
        if !access.is_learner().await? {
            access.revision().await?;
        }
        Ok(access)
    }

    /// Whether the member is a learner, which answers few calls.
    pub(super) async fn is_learner(&self) -> Result<bool> {
        let status = self.maintenance.clone().status(StatusRequest {}).await?;
        Ok(status.into_inner().is_learner)
    }

    /// The current revision, from a linearizable read.
    pub(super) async fn revision(&self) -> Result<i64> {
        let request = RangeRequest { key: "k".into(), ..RangeRequest::default() };
        let answer = self.kv.clone().range(request).await?.into_inner();
        Ok(answer.header.context("no header")?.revision)
    }

    /// Makes Go's etcd commit its database, which it does before it answers Maintenance.Hash
    /// (`server/storage/mvcc/hash.go` @ v3.5).
    pub(super) async fn force_commit(&self) -> Result<()> {
        self.maintenance.clone().hash(HashRequest {}).await.context("Hash")?;
        Ok(())
    }
}

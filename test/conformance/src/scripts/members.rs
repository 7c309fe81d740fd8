//! Membership changes and leadership transfers in a cluster of one member, valid and refused.
//!
//! Source: etcd v3.5 server/etcdserver/api/v3rpc/member.go.

use super::transcript::Transcript;
use anyhow::{Context as _, Result};
use proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest, MoveLeaderRequest, ResponseHeader,
};
use rpc::stubs::etcdserverpb::cluster_client::ClusterClient;
use rpc::stubs::etcdserverpb::maintenance_client::MaintenanceClient;
use tonic::transport::Channel;
use tonic::{Response, Status};

/// No member has this id.
const NOBODY: u64 = 404;

/// The clients of the services, and the server's own id and URL, which are masked.
struct Members<'a> {
    cluster: ClusterClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
    transcript: &'a mut Transcript,
    own: Member,
}

pub(super) async fn run(transcript: &mut Transcript) -> Result<()> {
    let mut cluster = ClusterClient::new(transcript.channel.clone());
    let maintenance = MaintenanceClient::new(transcript.channel.clone());
    let list = cluster.member_list(MemberListRequest { linearizable: true }).await?.into_inner();
    let own = list.members.into_iter().next().context("no member")?;
    let mut members = Members { cluster, maintenance, transcript, own };
    members.bad_urls().await;
    members.alone().await;
    members.learner().await?;
    members.unstarted_voter().await;
    Ok(())
}

impl Members<'_> {
    fn note(&mut self, what: &str, answer: Result<String, Status>) {
        let own = format!("{}", self.own.id);
        let said = match answer {
            Ok(text) => text,
            Err(status) => format!("{:?}: {}", status.code(), status.message()),
        };
        self.transcript.note(format!("{what}: {}", said.replace(&own, "own")));
    }

    /// The members without their ids, which depend on the time.
    fn shown(&self, header: Option<ResponseHeader>, members: &[Member]) -> String {
        let one = |member: &Member| {
            let is_own = member.id == self.own.id;
            let mut urls = member.peer_ur_ls.clone();
            let own_urls = &self.own.peer_ur_ls;
            urls.iter_mut()
                .filter(|url| own_urls.contains(url))
                .for_each(|url| *url = "own".into());
            let clients = member.client_ur_ls.len();
            let (name, is_learner) = (&member.name, member.is_learner);
            format!(
                "[own {is_own} {name:?} at {urls:?}, {clients} for clients, learner {is_learner}]"
            )
        };
        let mut all: Vec<String> = members.iter().map(one).collect();
        all.sort();
        let header = header.map(|header| (header.revision, header.member_id == self.own.id));
        format!("{header:?} {}", all.concat())
    }

    async fn add(&mut self, urls: &[&str], is_learner: bool) -> u64 {
        let peer_ur_ls: Vec<String> = urls.iter().map(ToString::to_string).collect();
        let request = MemberAddRequest { peer_ur_ls, is_learner };
        let answer = self.cluster.member_add(request).await.map(Response::into_inner);
        let id = answer.as_ref().ok().and_then(|answer| Some(answer.member.as_ref()?.id));
        let shown = answer.map(|answer| {
            let added = self.shown(None, &[answer.member.unwrap_or_default()]);
            format!("{added} of {}", self.shown(answer.header, &answer.members))
        });
        self.note(&format!("add {urls:?} learner {is_learner}"), shown);
        id.unwrap_or_default()
    }

    async fn remove(&mut self, what: &str, id: u64) {
        let answer = self.cluster.member_remove(MemberRemoveRequest { id }).await;
        let answer = answer.map(Response::into_inner);
        let shown = answer.map(|answer| self.shown(answer.header, &answer.members));
        self.note(&format!("remove {what}"), shown);
    }

    async fn update(&mut self, what: &str, id: u64, urls: &[&str]) {
        let peer_ur_ls = urls.iter().map(ToString::to_string).collect();
        let answer = self.cluster.member_update(MemberUpdateRequest { id, peer_ur_ls }).await;
        let answer = answer.map(Response::into_inner);
        let shown = answer.map(|answer| self.shown(answer.header, &answer.members));
        self.note(&format!("update {what}"), shown);
    }

    async fn promote(&mut self, what: &str, id: u64) {
        let answer = self.cluster.member_promote(MemberPromoteRequest { id }).await;
        let answer = answer.map(Response::into_inner);
        let shown = answer.map(|answer| self.shown(answer.header, &answer.members));
        self.note(&format!("promote {what}"), shown);
    }

    async fn move_leader(&mut self, what: &str, target_id: u64) {
        let answer = self.maintenance.move_leader(MoveLeaderRequest { target_id }).await;
        let shown = answer.map(|answer| format!("{:?}", answer.into_inner().header));
        self.note(&format!("move the leadership to {what}"), shown);
    }

    async fn list(&mut self, linearizable: bool) {
        let answer = self.cluster.member_list(MemberListRequest { linearizable }).await;
        let answer = answer.map(Response::into_inner);
        let shown = answer.map(|answer| self.shown(answer.header, &answer.members));
        self.note(&format!("list, linearizable {linearizable}"), shown);
    }

    async fn bad_urls(&mut self) {
        for urls in [
            &[][..],
            &[""],
            &["localhost:2380"],
            &["http://10.0.0.1"],
            &["http://10.0.0.1:1/path"],
            &["ftp://10.0.0.1:1"],
            &["http://10.0.0.1:1", "x"],
        ] {
            self.add(urls, false).await;
        }
    }

    async fn alone(&mut self) {
        let (own, own_url) = (self.own.id, self.own.peer_ur_ls.concat());
        self.list(true).await;
        self.list(false).await;
        self.remove("nobody", NOBODY).await;
        self.remove("the only member", own).await;
        self.promote("nobody", NOBODY).await;
        self.promote("the only member", own).await;
        self.update("nobody", NOBODY, &["http://127.0.0.1:1"]).await;
        self.update("itself with two URLs", own, &[&own_url, "http://127.0.0.1:1"]).await;
        self.update("itself as before", own, &[&own_url]).await;
        let answer = self
            .cluster
            .member_add(MemberAddRequest { peer_ur_ls: vec![own_url], is_learner: false });
        let answer = answer.await.map(|_| String::new());
        self.note("add a URL that is taken", answer);
        self.move_leader("itself", own).await;
        self.move_leader("nobody", NOBODY).await;
    }

    /// A learner that is never started.
    async fn learner(&mut self) -> Result<()> {
        let own = self.own.id;
        let learner = self.add(&["http://127.0.0.1:1", " http://127.0.0.1:2"], true).await;
        self.add(&["http://127.0.0.1:3"], true).await;
        self.add(&["http://127.0.0.1:2"], true).await;
        self.promote("the learner", learner).await;
        self.move_leader("the learner", learner).await;
        self.update("itself with a URL of the learner", own, &["http://127.0.0.1:1"]).await;
        // The script does not update a learner's URLs: up to 3.5.30, that makes it a voter in etcd.
        self.list(true).await;
        self.transcript.put("k", "v").await?;
        self.remove("the learner", learner).await;
        self.remove("the learner again", learner).await;
        self.update("the removed one", learner, &["http://127.0.0.1:5"]).await;
        self.promote("the removed one", learner).await;
        self.list(false).await;
        Ok(())
    }

    /// A voter that is never started: nothing can be committed any more.
    async fn unstarted_voter(&mut self) {
        self.add(&["http://127.0.0.1:6"], false).await;
        self.add(&["http://127.0.0.1:7"], false).await;
        self.add(&["http://127.0.0.1:7"], true).await;
        self.remove("itself, which alone is started", self.own.id).await;
        self.list(false).await;
    }
}

//! Membership changes, leases and leadership transfers: requests that a member handles itself, and
//! requests that a follower forwards to the leader.

use crate::member;
use bytes::Bytes;
use cluster::{Member, UnsafeChange};
use executor::BootOptions;
use proto::etcdserverpb::{
    InternalRaftRequest, LeaseGrantRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    PutRequest,
};
use proto::{Index, LeaseId, NodeId, Term};
use server::{
    Connections, EncodedRequest, Error, Forwarded, Forwarding, ForwardingError, Handle, Running,
    TakeOver, Worker,
};
use state::Reject;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vfs::SimDisk;

/// The member that the tests add.
const OTHER: NodeId = NodeId(2);
/// The time after which a test has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// The token of the client whose promotion is forwarded.
const TOKEN: &str = "abc.7";

struct NoClients;

impl Connections for NoClients {
    fn open(&self, _: Worker) -> TakeOver {
        Box::new(|_| {})
    }
}

/// A leader that gives prepared answers, and records the URLs of the requests.
#[derive(Debug, Default)]
struct FakeLeader {
    answers: Mutex<VecDeque<Result<i64, ForwardingError>>>,
    asked: Mutex<Vec<String>>,
}

impl FakeLeader {
    fn says(&self, answers: impl IntoIterator<Item = Result<i64, ForwardingError>>) {
        self.answers.lock().unwrap().extend(answers);
    }

    fn answer<T: 'static>(&self, url: &str, with: impl FnOnce(i64) -> T) -> Forwarded<T> {
        self.asked.lock().unwrap().push(url.to_owned());
        let answer = self.answers.lock().unwrap().pop_front();
        let answer = answer.unwrap_or_else(|| refused(500, "asked too often")).map(with);
        Box::pin(async move { answer })
    }
}

impl Forwarding for FakeLeader {
    fn renew_lease(&self, url: &str, _: LeaseId, _: Duration) -> Forwarded<i64> {
        self.answer(url, |ttl_s| ttl_s)
    }

    fn lease_time_to_live(
        &self,
        url: &str,
        request: LeaseTimeToLiveRequest,
        _: Duration,
    ) -> Forwarded<LeaseTimeToLiveResponse> {
        self.answer(url, move |ttl| LeaseTimeToLiveResponse {
            header: Some(Default::default()),
            id: request.id,
            ttl,
            ..Default::default()
        })
    }

    fn promote(
        &self,
        url: &str,
        member: NodeId,
        token: Option<String>,
        _: Duration,
    ) -> Forwarded<Vec<Member>> {
        assert_eq!(token.as_deref(), Some(TOKEN));
        self.answer(url, move |_| vec![Member { id: member, ..Member::default() }])
    }
}

fn refused<T>(status: u16, text: &str) -> Result<T, ForwardingError> {
    Err(ForwardingError::Refused { status, text: text.to_owned() })
}

/// A member that is alone at first.
struct Setting {
    running: Option<Running>,
    handle: Handle,
    leader: Arc<FakeLeader>,
}

impl Setting {
    fn new() -> Setting {
        // A follower that hears nothing does not campaign while a test runs.
        let boot = BootOptions { election_ticks: 1_000_000, ..BootOptions::simulated(1) };
        let leader = Arc::new(FakeLeader::default());
        let forwarding: Arc<dyn Forwarding> = leader.clone();
        let disk = Arc::new(SimDisk::new(1));
        let around = (Arc::new(NoClients) as Arc<dyn Connections>, forwarding);
        let running = member::start_with(disk, 1, Duration::from_secs(2), &boot, around);
        let setting = Setting { handle: running.handle(), running: Some(running), leader };
        let own = setting.own();
        setting.wait("its name is published", |setting| {
            let moment = setting.handle.moment();
            moment.is_linearizable()
                && moment.published.cluster.member(own).is_some_and(Member::is_started)
        });
        setting
    }

    /// A member that follows [`OTHER`], which has two URLs.
    fn follower() -> Setting {
        let setting = Setting::new();
        setting
            .run(|worker| async move {
                let peer_urls = ["http://a:1", "http://b:1"].map(str::to_owned).to_vec();
                worker.add_member(Member { id: OTHER, peer_urls, ..Member::default() }).await
            })
            .unwrap();
        let body = raft::Body::Heartbeat { commit: Index(0), context: Bytes::new() };
        let to = setting.own();
        setting.handle.receive(raft::Message { from: OTHER, to, term: Term(99), body });
        setting.wait("it follows", |setting| setting.handle.moment().leadership.leader == OTHER);
        setting
    }

    fn own(&self) -> NodeId {
        self.handle.identity().member
    }

    fn wait(&self, what: &str, done: impl Fn(&Setting) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::yield_now();
        }
    }

    /// Runs work with a worker.
    fn run<T, W, F>(&self, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(Worker) -> F + Send + 'static,
        F: Future<Output = Result<T, Error>> + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.handle.on_worker(work))?
    }

    fn add(&self, id: u64, url: &str, is_learner: bool) -> Result<Vec<Member>, Error> {
        let peer_urls = vec![url.to_owned()];
        let member = Member { id: NodeId(id), peer_urls, is_learner, ..Member::default() };
        self.run(|worker| async move { worker.add_member(member).await })
    }

    fn promote(&self, id: NodeId) -> Result<Vec<Member>, Error> {
        self.run(
            move |worker| async move { worker.promote_member(id, Some(TOKEN.to_owned())).await },
        )
    }

    fn move_leader(&self, to: NodeId) -> Result<(), Error> {
        self.run(move |worker| async move { worker.move_leader(to).await })
    }

    fn remove(&self, id: NodeId) -> Result<Vec<Member>, Error> {
        self.run(move |worker| async move { worker.remove_member(id).await })
    }

    fn update(&self, id: NodeId, url: &str) -> Result<Vec<Member>, Error> {
        let urls = vec![url.to_owned()];
        self.run(move |worker| async move { worker.update_member(id, urls).await })
    }

    fn renew(&self, lease: i64) -> Result<i64, Error> {
        let caller = auth::Caller::default();
        self.run(move |worker| async move { worker.renew_lease(caller, LeaseId(lease)).await })
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.leader.asked.lock().unwrap())
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        self.handle.stop();
        let ended = self.running.take().map(Running::wait);
        assert!(std::thread::panicking() || ended == Some(Ok(())), "{ended:?}");
    }
}

fn rejected<T>(reject: Reject) -> Result<T, Error> {
    Err(Error::Rejected(reject))
}

#[test]
fn a_single_member_takes_a_learner_and_promotes_none_that_is_behind() {
    let setting = Setting::new();
    let members = setting.add(7, "http://a:1", true).unwrap();
    assert!(members.iter().any(|member| member.id == NodeId(7) && member.is_learner));
    assert_eq!(setting.add(8, "http://b:1", true), rejected(Reject::TooManyLearners));
    assert_eq!(setting.add(8, "http://a:1", true), rejected(Reject::PeerUrlExists));
    assert_eq!(setting.add(7, "http://c:1", true), rejected(Reject::MemberExists));
    let behind = Err(Error::Unsafe(UnsafeChange::LearnerNotReady));
    assert_eq!(setting.promote(NodeId(7)), behind);
    assert_eq!(setting.promote(NodeId(9)), rejected(Reject::MemberNotFound));
    assert_eq!(setting.promote(setting.own()), rejected(Reject::NotLearner));
    let members = setting.remove(NodeId(7)).unwrap();
    assert_eq!(members.len(), 1);
    assert_eq!(setting.add(7, "http://a:1", true), rejected(Reject::MemberRemoved));
}

#[test]
fn the_only_member_cannot_be_removed_and_no_third_comes_before_the_second_is_started() {
    let setting = Setting::new();
    let not_enough = Err(Error::Unsafe(UnsafeChange::NotEnoughStarted));
    assert_eq!(setting.remove(setting.own()), not_enough);
    assert_eq!(setting.add(7, "http://a:1", false).unwrap().len(), 2);
    assert_eq!(setting.add(8, "http://b:1", false), not_enough);
    let unhealthy = Err(Error::Unsafe(UnsafeChange::Unhealthy));
    assert_eq!(setting.add(8, "http://b:1", true), unhealthy);
    assert_eq!(setting.remove(setting.own()), not_enough);
}

#[test]
fn peer_urls_are_updated_and_belong_to_one_member() {
    let setting = Setting::new();
    setting.add(7, "http://a:1", true).unwrap();
    assert_eq!(setting.update(NodeId(9), "http://b:1"), rejected(Reject::MemberNotFound));
    assert_eq!(setting.update(setting.own(), "http://a:1"), rejected(Reject::PeerUrlExists));
    let members = setting.update(NodeId(7), "http://b:1").unwrap();
    let updated = members.iter().find(|member| member.id == NodeId(7)).unwrap();
    assert_eq!(updated.peer_urls, ["http://b:1"]);
    assert!(updated.is_learner, "only the URLs change");
}

#[test]
fn leadership_goes_only_to_a_voter_and_only_from_the_leader() {
    let setting = Setting::new();
    setting.add(7, "http://a:1", true).unwrap();
    assert_eq!(setting.move_leader(setting.own()), Ok(()));
    assert_eq!(setting.move_leader(NodeId(7)), Err(Error::BadTransferee));
    assert_eq!(setting.move_leader(NodeId(9)), Err(Error::BadTransferee));
    let follower = Setting::follower();
    assert_eq!(follower.move_leader(OTHER), Err(Error::NotLeader));
}

#[test]
fn the_leader_answers_about_leases_itself() {
    let setting = Setting::new();
    let grant = LeaseGrantRequest { id: 5, ttl: 60 };
    let request = InternalRaftRequest { lease_grant: Some(grant), ..Default::default() };
    let request = EncodedRequest::new(&request);
    setting
        .run(|worker| async move { worker.propose(auth::Caller::default(), request).await })
        .unwrap();
    assert_eq!(setting.renew(5), Ok(60));
    assert_eq!(setting.renew(6), rejected(Reject::LeaseNotFound));
    assert_eq!(setting.asked(), [""; 0]);
}

#[test]
fn a_proposal_that_waits_takes_less_than_a_kibibyte() {
    let put = PutRequest { key: "k".into(), ..PutRequest::default() };
    let request = InternalRaftRequest { put: Some(put), ..InternalRaftRequest::default() };
    assert!(size_of_val(&request) > 1024, "it would not fit");
    let request = EncodedRequest::new(&request);
    let size =
        Setting::new()
            .run(|worker| async move {
                Ok(size_of_val(&worker.propose(auth::Caller::default(), request)))
            })
            .unwrap();
    assert!(size < 1024, "{size} bytes");
}

#[test]
fn a_follower_asks_the_leader_about_leases() {
    let setting = Setting::follower();
    setting.leader.says([refused(408, "late"), Ok(60)]);
    assert_eq!(setting.renew(5), Ok(60));
    assert_eq!(setting.asked(), ["http://a:1", "http://b:1"], "each URL in turn");
    setting.leader.says([refused(404, "lease not found")]);
    assert_eq!(setting.renew(6), rejected(Reject::LeaseNotFound));
    assert_eq!(setting.asked(), ["http://a:1"]);
    setting.leader.says([refused(500, "not a primary lessor"), refused(500, "again"), Ok(9)]);
    let request = LeaseTimeToLiveRequest { id: 5, keys: true };
    let caller = auth::Caller::default();
    let found =
        setting.run(move |worker| async move { worker.lease_time_to_live(caller, request).await });
    let found = found.unwrap();
    assert_eq!((found.id, found.ttl, found.header), (5, 9, None));
    assert_eq!(setting.asked().len(), 3, "again after a pause");
    let caller = auth::Caller::default();
    let here = setting
        .run(|worker| async move { worker.renew_lease_here(Some(caller), LeaseId(5)).await });
    assert_eq!(here, Err(Error::NotPrimary), "not forwarded twice");
}

#[test]
fn a_follower_has_a_learner_promoted_by_the_leader() {
    let setting = Setting::follower();
    setting.leader.says([Ok(0)]);
    assert_eq!(setting.promote(NodeId(7)).unwrap()[0].id, NodeId(7));
    for (status, text, error) in [
        (404, "membership: ID not found", Error::Rejected(Reject::MemberNotFound)),
        (412, "membership: can only promote a learner member", Error::Rejected(Reject::NotLearner)),
        (
            412,
            "etcdserver: can only promote a learner member which is in sync with leader",
            Error::Unsafe(UnsafeChange::LearnerNotReady),
        ),
    ] {
        setting.leader.says([refused(500, "Internal Server Error"), refused(status, text)]);
        assert_eq!(setting.promote(NodeId(7)), Err(error));
    }
}

#[test]
fn a_leader_that_never_answers_costs_the_time_of_a_request() {
    let setting = Setting::follower();
    assert_eq!(setting.renew(5), Err(Error::Timeout));
}

#[test]
fn a_proposal_without_a_quorum_says_that_the_connection_was_lost() {
    let setting = Setting::new();
    setting.add(7, "http://a:1", false).unwrap();
    let asked = setting.run(|worker| async move { worker.update_member(NodeId(7), vec![]).await });
    assert_eq!(asked, Err(Error::TimeoutConnectionLost), "it leads and reaches nobody");
    let follower = Setting::follower();
    let asked = follower.run(|worker| async move { worker.update_member(OTHER, vec![]).await });
    assert_eq!(asked, Err(Error::TimeoutConnectionLost), "its leader is not reached");
}

//! The services as tonic's clients see them, over a loopback socket.

use crate::fake::{Fake, channel, serve};
use api::Limits;
use proto::etcdserverpb::{
    AlarmRequest, AuthRoleGrantPermissionRequest, AuthStatusRequest, AuthUserAddRequest,
    AuthUserChangePasswordRequest, CompactionRequest, DefragmentRequest, DeleteRangeRequest,
    DowngradeRequest, HashKvRequest, HashRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
    LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, MemberAddRequest,
    MemberListRequest, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest,
    MoveLeaderRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, SnapshotRequest,
    StatusRequest, TxnRequest, WatchCreateRequest, WatchRequest, request_op::Request,
    watch_request::RequestUnion,
};
use proto::healthpb::{HealthCheckRequest, HealthListRequest};
use rpc::stubs::etcdserverpb::auth_client::AuthClient;
use rpc::stubs::etcdserverpb::cluster_client::ClusterClient;
use rpc::stubs::etcdserverpb::kv_client::KvClient;
use rpc::stubs::etcdserverpb::lease_client::LeaseClient;
use rpc::stubs::etcdserverpb::maintenance_client::MaintenanceClient;
use rpc::stubs::etcdserverpb::watch_client::WatchClient;
use rpc::stubs::healthpb::health_client::HealthClient;
use sha2::Digest as _;
use tonic::Code;

fn put(key: &str, value: &str) -> PutRequest {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    PutRequest { key, value, prev_kv: true, ..PutRequest::default() }
}

fn all() -> RangeRequest {
    RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { cluster_id: 11, member_id: 12, revision, raft_term: 13 })
}

#[test]
fn keys_are_put_read_and_deleted() {
    serve(&Fake::default(), Limits::default(), |address| async move {
        let mut kv = KvClient::new(channel(address).await);
        let answer = kv.put(put("a", "1")).await.unwrap().into_inner();
        assert_eq!((answer.header, answer.prev_kv), (header(1), None));
        let answer = kv.put(put("a", "2")).await.unwrap().into_inner();
        assert_eq!(answer.prev_kv.unwrap().value, "1");
        let answer = kv.range(all()).await.unwrap().into_inner();
        assert_eq!((answer.header, answer.count, answer.more), (header(2), 1, false));
        assert_eq!(answer.kvs[0].value, "2");
        let request = DeleteRangeRequest { key: "a".into(), ..Default::default() };
        let answer = kv.delete_range(request).await.unwrap().into_inner();
        assert_eq!((answer.deleted, answer.prev_kvs.len()), (1, 1));
        let answer = kv.compact(CompactionRequest::default()).await.unwrap().into_inner();
        assert_eq!(answer.header, header(3));
    });
}

#[test]
fn a_transaction_answers_each_operation() {
    serve(&Fake::default(), Limits::default(), |address| async move {
        let mut kv = KvClient::new(channel(address).await);
        let op = |request| RequestOp { request: Some(request) };
        let success = vec![
            op(Request::RequestPut(put("a", "1"))),
            op(Request::RequestRange(all())),
            op(Request::RequestTxn(TxnRequest::default())),
        ];
        let request = TxnRequest { success, ..TxnRequest::default() };
        let answer = kv.txn(request).await.unwrap().into_inner();
        assert_eq!((answer.header, answer.succeeded), (header(1), true));
        assert_eq!(answer.responses.len(), 3);
    });
}

#[test]
fn errors_have_etcds_code_and_text() {
    serve(&Fake::default(), Limits::default(), |address| async move {
        let mut kv = KvClient::new(channel(address).await);
        let status = kv.put(put("", "x")).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "etcdserver: key is not provided");
        let request = RangeRequest { revision: 99, ..all() };
        let status = kv.range(request).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange);
        assert_eq!(status.message(), "etcdserver: mvcc: required revision is a future revision");
        // The connection goes on.
        kv.put(put("a", "x")).await.unwrap();
    });
}

#[test]
fn large_answers_come_whole_and_side_by_side() {
    let fake = Fake::default();
    for at in 0..2_000 {
        fake.insert(&format!("{at:05}"), vec![7; 10_000].into());
    }
    serve(&fake, Limits::default(), |address| async move {
        let kv = KvClient::new(channel(address).await).max_decoding_message_size(1 << 30);
        let read = |mut kv: KvClient<_>| async move {
            let answer = kv.range(all()).await.unwrap().into_inner();
            assert_eq!((answer.count, answer.kvs.len()), (2_000, 2_000));
            assert!(answer.kvs.iter().all(|kv| kv.value.len() == 10_000));
        };
        tokio::join!(read(kv.clone()), read(kv.clone()), read(kv.clone()));
    });
}

#[test]
fn a_range_comes_as_a_stream() {
    let fake = Fake::default();
    for at in 0..10 {
        fake.insert(&format!("{at:05}"), vec![7; 50_000].into());
    }
    serve(&fake, Limits::default(), |address| async move {
        let mut kv = KvClient::new(channel(address).await);
        let mut stream = kv.range_stream(all()).await.unwrap().into_inner();
        let mut chunks = Vec::new();
        while let Some(chunk) = stream.message().await.unwrap() {
            chunks.push(chunk.range_response.unwrap());
        }
        let lens: Vec<usize> = chunks.iter().map(|chunk| chunk.kvs.len()).collect();
        assert_eq!(lens, [3, 3, 3, 1]);
        assert!(chunks[..3].iter().all(|chunk| chunk.header.is_none() && chunk.count == 0));
        assert_eq!((chunks[3].header, chunks[3].count), (header(10), 10));
        let request = RangeRequest { sort_order: 2, ..all() };
        let status = kv.range_stream(request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
    });
}

fn create(rounds: i64, len: i64) -> WatchRequest {
    let request =
        WatchCreateRequest { start_revision: rounds, watch_id: len, ..Default::default() };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) }
}

#[test]
fn a_watch_delivers_and_sees_what_the_client_took() {
    let fake = Fake::default();
    let seen = fake.clone();
    serve(&fake, Limits::default(), |address| async move {
        let mut watch = WatchClient::new(channel(address).await);
        let (requests, body) = tokio::sync::mpsc::channel(4);
        let body = tokio_stream::wrappers::ReceiverStream::new(body);
        requests.send(create(5, 100_000)).await.unwrap();
        let mut events = watch.watch(body).await.unwrap().into_inner();
        for round in 0..5 {
            let response = events.message().await.unwrap().unwrap();
            let kv = response.events[0].kv.as_ref().unwrap();
            assert_eq!((kv.mod_revision, kv.value.len()), (round, 100_000));
        }
        requests.send(create(1, 1)).await.unwrap();
        events.message().await.unwrap().unwrap();
        assert!(seen.0.drained.get() > 500_000, "{}", seen.0.drained.get());
        assert_eq!(seen.0.watches_gone.get(), 0);
        // No more requests do not end a watch.
        drop(requests);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        assert_eq!(seen.0.watches_gone.get(), 0);
        drop(events);
        while seen.0.watches_gone.get() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn leases_are_granted_kept_and_listed() {
    serve(&Fake::default(), Limits::default(), |address| async move {
        let mut lease = LeaseClient::new(channel(address).await);
        let answer = lease.lease_grant(LeaseGrantRequest { id: 7, ttl: 1 }).await.unwrap();
        let answer = answer.into_inner();
        assert_eq!((answer.id, answer.ttl), (7, 2));
        let status = lease.lease_revoke(LeaseRevokeRequest { id: 404 }).await.unwrap_err();
        assert_eq!(status.message(), "etcdserver: requested lease not found");
        lease.lease_revoke(LeaseRevokeRequest { id: 7 }).await.unwrap();
        let asks = [7, 404].map(|id| LeaseKeepAliveRequest { id });
        let mut kept = lease.lease_keep_alive(tokio_stream::iter(asks)).await.unwrap().into_inner();
        assert_eq!(kept.message().await.unwrap().unwrap().ttl, 60);
        let gone = kept.message().await.unwrap().unwrap();
        assert_eq!((gone.id, gone.ttl), (404, 0));
        assert_eq!(kept.message().await.unwrap(), None);
        let request = LeaseTimeToLiveRequest { id: 404, keys: true };
        let answer = lease.lease_time_to_live(request).await.unwrap().into_inner();
        assert_eq!((answer.id, answer.ttl, answer.granted_ttl), (404, -1, 0));
        let request = LeaseTimeToLiveRequest { id: 3, keys: true };
        let answer = lease.lease_time_to_live(request).await.unwrap().into_inner();
        assert_eq!((answer.ttl, answer.keys.len()), (5, 1));
        let answer = lease.lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner();
        assert_eq!(answer.leases.iter().map(|lease| lease.id).collect::<Vec<_>>(), [3, 1]);
    });
}

#[test]
fn maintenance_answers() {
    let fake = Fake::default();
    let file: Vec<u8> = (0..100_000u32).flat_map(u32::to_be_bytes).collect();
    *fake.0.snapshot.borrow_mut() = file.clone();
    let member = fake.clone();
    serve(&fake, Limits::default(), |address| async move {
        let mut maintenance = MaintenanceClient::new(channel(address).await);
        let answer = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
        assert_eq!(answer.errors, ["memberID:12 alarm:NOSPACE"]);
        assert!(answer.downgrade_info.is_some());
        member.0.no_leader.set(true);
        let answer = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
        assert_eq!(answer.errors[0], "etcdserver: no leader");
        let answer = maintenance.alarm(AlarmRequest::default()).await.unwrap().into_inner();
        assert_eq!(answer.alarms.len(), 1);
        maintenance.defragment(DefragmentRequest {}).await.unwrap();
        let answer = maintenance.hash(HashRequest {}).await.unwrap().into_inner();
        assert_eq!((answer.header, answer.hash), (header(0), 5));
        let answer = maintenance.hash_kv(HashKvRequest::default()).await.unwrap().into_inner();
        assert_eq!((answer.header, answer.compact_revision), (header(9), -1));

        let mut stream = maintenance.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
        let mut received = Vec::new();
        while let Some(part) = stream.message().await.unwrap() {
            assert!(part.blob.len() <= 32 * 1024);
            assert_eq!(part.version, "3.7.0");
            received.extend_from_slice(&part.blob);
            let left = file.len().saturating_sub(received.len()) as u64;
            assert_eq!(part.remaining_bytes, left);
        }
        assert_eq!(received[..file.len()], file);
        assert_eq!(received[file.len()..], sha2::Sha256::digest(&file)[..]);
    });
}

#[test]
fn an_alarm_at_which_members_of_etcd_panic_is_not_proposed() {
    let fake = Fake::default();
    let member = fake.clone();
    serve(&fake, Limits::default(), |address| async move {
        let mut maintenance = MaintenanceClient::new(channel(address).await);
        let request = |action, alarm| AlarmRequest { action, member_id: 1, alarm };
        let unknown_alarm = "etcdserver: unknown alarm type";
        let unknown_action = "etcdserver: unknown action";
        for (action, alarm, text) in [
            (1, 9, unknown_alarm),
            (1, -1, unknown_alarm),
            (3, 1, unknown_action),
            (-1, 0, unknown_action),
        ] {
            let status = maintenance.alarm(request(action, alarm)).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{action} {alarm}");
            assert!(status.message().starts_with(text), "{}", status.message());
        }
        assert_eq!(member.0.alarm_entries.get(), 0);
        // 3.4 stores unknown alarms, so they can be read and deactivated.
        for (action, alarm) in [(1, 0), (1, 1), (1, 2), (2, 9), (0, 9)] {
            maintenance.alarm(request(action, alarm)).await.unwrap();
        }
        assert_eq!(member.0.alarm_entries.get(), 5);
    });
}

#[test]
fn a_role_gets_no_permission_from_a_request_without_one() {
    // The fake host would take the entry.
    serve(&Fake::default(), Limits::default(), |address| async move {
        let mut auth = AuthClient::new(channel(address).await);
        let request = AuthRoleGrantPermissionRequest { name: "r".to_owned(), perm: None };
        let status = auth.role_grant_permission(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "etcdserver: permission not given");
        let perm = Some(proto::authpb::Permission::default());
        let request = AuthRoleGrantPermissionRequest { name: "r".to_owned(), perm };
        auth.role_grant_permission(request).await.unwrap();
    });
}

#[test]
fn members_and_health_answer() {
    serve(&Fake::default(), Limits::default(), |address| async move {
        let mut cluster = ClusterClient::new(channel(address).await);
        let answer = cluster.member_list(MemberListRequest::default()).await.unwrap();
        let answer = answer.into_inner();
        assert_eq!((answer.header, answer.members.len()), (header(0), 1));
        let mut health = HealthClient::new(channel(address).await);
        let answer = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert_eq!(answer.status, 1);
        let other = HealthCheckRequest { service: "x".to_owned() };
        let status = health.check(other.clone()).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::NotFound, "unknown service"));
        let answer = health.list(HealthListRequest {}).await.unwrap().into_inner();
        assert_eq!(answer.statuses[""].status, 1);
        let mut watch = health.watch(other).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status, 3);
    });
}

#[test]
fn changes_of_the_members_answer_with_the_members() {
    serve(&Fake::default(), Limits::default(), |address| async move {
        let mut cluster = ClusterClient::new(channel(address).await);
        let peer_ur_ls = ["http://b:2", "http://a:1"].map(str::to_owned).to_vec();
        let add = MemberAddRequest { peer_ur_ls, is_learner: true };
        let answer = cluster.member_add(add).await.unwrap().into_inner();
        let added = answer.member.unwrap();
        assert_eq!((answer.header, answer.members.len()), (header(0), 2));
        assert!(added.is_learner && added.name.is_empty());
        assert_eq!(added.peer_ur_ls, ["http://a:1", "http://b:2"], "in order");
        let peer_ur_ls = vec!["http://b:2".to_owned(), "http://a:1".to_owned()];
        let update = MemberUpdateRequest { id: 12, peer_ur_ls: peer_ur_ls.clone() };
        let answer = cluster.member_update(update).await.unwrap().into_inner();
        assert_eq!(answer.members[0].peer_ur_ls, peer_ur_ls, "as they came");
        assert_eq!(answer.header, header(0));
        let answer = cluster.member_remove(MemberRemoveRequest { id: 12 }).await.unwrap();
        assert_eq!(answer.into_inner().header, header(0));
        let answer = cluster.member_promote(MemberPromoteRequest { id: 13 }).await.unwrap();
        let answer = answer.into_inner();
        assert_eq!((answer.header, answer.members.len()), (header(0), 1));
        let mut maintenance = MaintenanceClient::new(channel(address).await);
        let answer = maintenance.move_leader(MoveLeaderRequest { target_id: 12 }).await.unwrap();
        assert_eq!(answer.into_inner().header, None);
        let downgrade = DowngradeRequest { action: 0, version: "3.6".to_owned() };
        let answer = maintenance.downgrade(downgrade).await.unwrap().into_inner();
        assert_eq!((answer.header, &*answer.version), (header(0), "3.7"));
    });
}

#[test]
fn refused_changes_of_the_members_have_etcds_codes_and_texts() {
    serve(&Fake::default(), Limits::default(), |address| async move {
        let mut cluster = ClusterClient::new(channel(address).await);
        let bad = || vec!["http://a".to_owned()];
        let add = MemberAddRequest { peer_ur_ls: bad(), is_learner: false };
        let update = MemberUpdateRequest { id: 12, peer_ur_ls: bad() };
        let mut maintenance = MaintenanceClient::new(channel(address).await);
        for (status, code, text) in [
            (
                cluster.member_add(add).await.unwrap_err(),
                Code::InvalidArgument,
                "etcdserver: given member URLs are invalid",
            ),
            (
                cluster.member_update(update).await.unwrap_err(),
                Code::InvalidArgument,
                "etcdserver: given member URLs are invalid",
            ),
            (
                cluster.member_remove(MemberRemoveRequest { id: 404 }).await.unwrap_err(),
                Code::NotFound,
                "etcdserver: member not found",
            ),
            (
                cluster.member_promote(MemberPromoteRequest { id: 12 }).await.unwrap_err(),
                Code::FailedPrecondition,
                "etcdserver: can only promote a learner member",
            ),
            (
                maintenance.move_leader(MoveLeaderRequest { target_id: 1 }).await.unwrap_err(),
                Code::FailedPrecondition,
                "etcdserver: bad leader transferee",
            ),
            (
                maintenance.downgrade(DowngradeRequest::default()).await.unwrap_err(),
                Code::InvalidArgument,
                "etcdserver: invalid downgrade target version",
            ),
        ] {
            assert_eq!((status.code(), status.message()), (code, text));
        }
    });
}

#[test]
fn a_full_member_takes_no_puts_and_a_learner_little() {
    let fake = Fake::default();
    let member = fake.clone();
    serve(&fake, Limits::default(), |address| async move {
        let mut kv = KvClient::new(channel(address).await);
        member.0.full.set(true);
        // As etcd, the quota comes before the request's own faults.
        let status = kv.put(put("", "1")).await.unwrap_err();
        assert_eq!(status.message(), "etcdserver: mvcc: database space exceeded");
        kv.range(all()).await.unwrap();
        member.0.learner.set(true);
        let status = kv.range(all()).await.unwrap_err();
        assert_eq!(status.message(), "etcdserver: rpc not supported for learner");
        kv.range(RangeRequest { serializable: true, ..all() }).await.unwrap();
        let status = kv.range_stream(all()).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        let mut maintenance = MaintenanceClient::new(channel(address).await);
        maintenance.snapshot(SnapshotRequest {}).await.unwrap();
    });
}

#[test]
fn a_stream_that_requires_a_leader_ends_without_one() {
    let fake = Fake::default();
    let member = fake.clone();
    let limits =
        Limits { no_leader_max: std::time::Duration::from_millis(60), ..Limits::default() };
    serve(&fake, limits, |address| async move {
        let request = || {
            let body = tokio_stream::pending::<WatchRequest>();
            let mut request = tonic::Request::new(body);
            request.metadata_mut().insert("hasleader", "true".parse().unwrap());
            request
        };
        let mut watch = WatchClient::new(channel(address).await);
        let mut events = watch.watch(request()).await.unwrap().into_inner();
        member.0.no_leader.set(true);
        let status = events.message().await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.message(), "etcdserver: no leader");
        let status = watch.watch(request()).await.unwrap_err();
        assert_eq!(status.message(), "etcdserver: no leader");
    });
}

#[test]
fn the_state_of_authentication_is_read_and_no_entry() {
    // The fake host has no answer to such an entry.
    serve(&Fake::default(), Limits::default(), |address| async move {
        let mut auth = AuthClient::new(channel(address).await);
        let answer = auth.auth_status(AuthStatusRequest {}).await.unwrap().into_inner();
        assert_eq!((answer.header, answer.enabled, answer.auth_revision), (header(0), true, 5));
    });
}

#[test]
fn a_password_is_in_an_entry_only_if_a_member_reads_no_hash() {
    for (old, password) in [(false, ""), (true, "secret")] {
        let fake = Fake::default();
        fake.0.has_members_of_3_4.set(old);
        serve(&fake, Limits::default(), |address| async move {
            let mut auth = AuthClient::new(channel(address).await);
            let (name, password) = ("alice".to_owned(), "secret".to_owned());
            let (user, word) = (name.clone(), password.clone());
            let add = AuthUserAddRequest { name: user, password: word, ..Default::default() };
            auth.user_add(add).await.unwrap();
            let change = AuthUserChangePasswordRequest { name, password, ..Default::default() };
            auth.user_change_password(change).await.unwrap();
        });
        let hash = "hash of secret".to_owned();
        let one = (password.to_owned(), hash);
        assert_eq!(*fake.0.users.borrow(), [one.clone(), one]);
    }
}

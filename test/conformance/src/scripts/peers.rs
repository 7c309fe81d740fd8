//! Requests to the peer port besides raft: members, leases, promotions, hashes.
//!
//! Source: etcd v3.5 server/etcdserver/api/etcdhttp/peer.go, server/lease/leasehttp/http.go.

use super::transcript::{Transcript, put};
use anyhow::{Context as _, Result, ensure};
use prost::Message as _;
use proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    PutRequest, StatusRequest,
};
use proto::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use rpc::stubs::etcdserverpb::lease_client::LeaseClient;
use rpc::stubs::etcdserverpb::maintenance_client::MaintenanceClient;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer of the port.
struct Answer {
    status: String,
    /// The names and values of the headers that matter, in order.
    headers: Vec<String>,
    body: Vec<u8>,
}

pub(super) async fn run(transcript: &mut Transcript, port: u16) -> Result<()> {
    let mut lease = LeaseClient::new(transcript.channel.clone());
    lease.lease_grant(LeaseGrantRequest { id: 7, ttl: 600 }).await?;
    for key in ["b", "a"] {
        transcript.kv.put(PutRequest { lease: 7, ..put(key, "v") }).await?;
    }
    let mut maintenance = MaintenanceClient::new(transcript.channel.clone());
    let status = maintenance.status(StatusRequest {}).await?.into_inner();
    let header = status.header.context("no header")?;
    let own = [format!("{:x}", header.cluster_id), header.member_id.to_string()];
    for (method, path, headers, body) in requests(&own) {
        let answer = ask(port, method, &path, &headers, body)?;
        let shown = if path == "/leases/internal" && answer.status == "200" {
            let answer = LeaseInternalResponse::decode(&answer.body[..])?;
            let mut lives = answer.lease_time_to_live_response.context("no content")?;
            // The order of the keys is that of a map in etcd.
            lives.keys.sort();
            ensure!((500..=600).contains(&lives.ttl), "{lives:?}");
            format!("{:?}", LeaseTimeToLiveResponse { ttl: 0, ..lives })
        } else {
            // The field exists from 3.6 on.
            String::from_utf8_lossy(&answer.body).replace(",\"hash_revision\":", " of ")
        };
        let shown = shown.split(" of ").next().unwrap_or_default().trim_end_matches('}');
        let (status, said) = (answer.status, answer.headers.join(", "));
        let line = format!("{method} {path} {headers:?}: {status} {said} {shown:?}");
        transcript.note(line.replace(&own[0], "cluster").replace(&own[1], "member"));
    }
    Ok(())
}

/// Methods, paths, headers and bodies, for a cluster and a member.
fn requests([cluster, member]: &[String; 2]) -> Vec<(&'static str, String, String, Vec<u8>)> {
    let none = String::new;
    let other = || "X-Etcd-Cluster-ID: 1c\r\n".to_owned();
    let own = || format!("X-Etcd-Cluster-ID: {cluster}\r\n");
    let renew = |id| LeaseKeepAliveRequest { id }.encode_to_vec();
    let lives = |id, keys| {
        let request = LeaseTimeToLiveRequest { id, keys };
        LeaseInternalRequest { lease_time_to_live_request: Some(request) }.encode_to_vec()
    };
    let hash = |revision: i64| format!("{{\"revision\":{revision}}}").into_bytes();
    let path = str::to_owned;
    vec![
        ("POST", path("/members"), none(), Vec::new()),
        ("GET", path("/members/promote/1"), none(), Vec::new()),
        ("POST", path("/members/promote/x"), none(), Vec::new()),
        ("POST", path("/members/promote/404"), none(), Vec::new()),
        ("POST", format!("/members/promote/{member}"), none(), Vec::new()),
        ("GET", path("/leases"), none(), Vec::new()),
        ("POST", path("/leases"), none(), b"\xff".to_vec()),
        ("POST", path("/leases"), none(), renew(7)),
        ("POST", path("/leases"), none(), renew(404)),
        ("POST", path("/leases/internal"), none(), b"\xff".to_vec()),
        ("POST", path("/leases/internal"), none(), lives(7, false)),
        ("POST", path("/leases/internal"), none(), lives(7, true)),
        ("POST", path("/leases/internal"), none(), lives(404, true)),
        ("POST", path("/members/hashkv"), none(), Vec::new()),
        ("GET", path("/members/hashkv"), none(), b"x".to_vec()),
        ("GET", path("/members/hashkv"), other(), hash(0)),
        ("GET", path("/members/hashkv"), own(), hash(0)),
        ("GET", path("/members/hashkv"), none(), hash(2)),
        ("GET", path("/members/hashkv"), none(), hash(404)),
        ("POST", path("/downgrade/enabled"), none(), Vec::new()),
        ("GET", path("/downgrade/enabled"), none(), Vec::new()),
        ("GET", path("/nothing"), none(), Vec::new()),
    ]
}

fn ask(port: u16, method: &str, path: &str, headers: &str, body: Vec<u8>) -> Result<Answer> {
    let mut peer = TcpStream::connect(("127.0.0.1", port))?;
    peer.set_read_timeout(Some(PATIENCE))?;
    let len = body.len();
    write!(peer, "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n{headers}\r\n")?;
    peer.write_all(&body)?;
    let mut peer = BufReader::new(peer);
    let (mut head, mut len) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        ensure!(peer.read_line(&mut head)? > 0, "half an answer: {head:?}");
    }
    let head = head.to_lowercase();
    for line in head.lines() {
        if let Some(text) = line.strip_prefix("content-length:") {
            len = text.trim().parse()?;
        }
    }
    let mut body = vec![0; len];
    peer.read_exact(&mut body)?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?;
    let matters =
        |line: &&str| ["content-type", "allow", "x-"].iter().any(|name| line.starts_with(name));
    let mut headers: Vec<String> = lines.filter(matters).map(str::to_owned).collect();
    headers.sort();
    Ok(Answer { status: status.to_owned(), headers, body })
}

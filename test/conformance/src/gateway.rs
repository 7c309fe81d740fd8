//! The JSON gateway over plain HTTP: a list of requests to every path, and the comparison of the
//! responses.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The time limit of one answer.
const TIME_MAX: Duration = Duration::from_secs(20);

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// Method and path.
    pub target: &'static str,
    /// The body.
    pub body: &'static str,
    /// How many lines of a stream are read, if it does not end by itself.
    pub lines: Option<usize>,
}

const fn post(target: &'static str, body: &'static str) -> Exchange {
    Exchange { target, body, lines: None }
}

const fn lines(target: &'static str, body: &'static str, lines: usize) -> Exchange {
    Exchange { target, body, lines: Some(lines) }
}

/// Every path with a request that succeeds if possible, and invalid requests. The keys are `foo`
/// (`Zm9v`), `a` (`YQ==`) and those of the lock `l` (`bA==`) and the election `e` (`ZQ==`).
pub const EXCHANGES: &[Exchange] = &[
    post("POST /v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#),
    post("POST /v3/kv/put", r#"{"key":"Zm9v","value":"_-9h","prevKv":true,"unknown":[1]}"#),
    post("POST /v3beta/kv/put", r#"{"key":"YQ","value":null}"#),
    post("POST /v3/kv/put", r#"{"value":"YmFy"}"#),
    post("POST /v3/kv/put", r#"{"key":"Zm9v","lease":"999"}"#),
    post("POST /v3/kv/range", r#"{"key":"Zm9v"}"#),
    post(
        "POST /v3/kv/range",
        r#"{"key":"AA==","range_end":"AA==","limit":"1","sort_order":"DESCEND"}"#,
    ),
    post(
        "POST /v3/kv/range",
        r#"{"key":"AA==","rangeEnd":"AA==","limit":1.0,"sortTarget":3,"sort_order":2}"#,
    ),
    post("POST /v3/kv/range", r#"{"key":"AA==","range_end":"AA==","count_only":true}"#),
    post("POST /v3/kv/range", r#"{"key":"bm9uZQ=="}"#),
    post("POST /v3/kv/range", r#"{"key":"Zm9v","revision":"100"}"#),
    post("POST /v3/kv/range", r#"{"key":"Zm9v","sort_order":"SIDEWAYS"}"#),
    post("POST /v3/kv/range", r#"{"key":"Zm9v"} behind it"#),
    post("POST /v3/kv/range", ""),
    post("POST /v3/kv/range", "{}"),
    post("POST /v3/kv/range", "[]"),
    post("POST /v3/kv/range", "null"),
    post("POST /v3/kv/range", "x"),
    post("POST /v3/kv/range", r#"{"key":5}"#),
    post("POST /v3/kv/range", r#"{"key":"!"}"#),
    post("POST /v3/kv/range", r#"{"key":"Zm9v","limit":5.5}"#),
    post("POST /v3/kv/range", r#"{"key":"Zm9v","limit":"many"}"#),
    post("GET /v3/kv/range", ""),
    post("PUT /v3/kv/range", "{}"),
    post("DELETE /v3/kv/range", ""),
    post("OPTIONS /v3/kv/range", ""),
    post("POST /v3/kv/range/", "{}"),
    post("POST /v3/none", "{}"),
    post("POST /v3alpha/kv/range", "{}"),
    post(
        "POST /v3/kv/txn",
        r#"{"compare":[{"target":"VERSION","result":"GREATER","key":"Zm9v","version":"1"}],
            "success":[{"request_range":{"key":"Zm9v"}},{"requestPut":{"key":"YQ==","value":"Yg==","prev_kv":true}},
                       {"request_txn":{"success":[{"request_delete_range":{"key":"bm9uZQ=="}}]}}]}"#,
    ),
    post("POST /v3/kv/txn", r#"{"success":[{}]}"#),
    post("POST /v3/kv/deleterange", r#"{"key":"YQ==","prev_kv":true}"#),
    post("POST /v3/kv/compaction", r#"{"revision":"3"}"#),
    post("POST /v3/kv/compaction", r#"{"revision":"3"}"#),
    post("POST /v3/kv/compaction", r#"{"revision":"1000","physical":true}"#),
    lines("POST /v3/watch", r#"{"create_request":{"key":"Zm9v","start_revision":"3"}}"#, 2),
    lines("POST /v3/watch", r#"{"createRequest":{"key":"Zm9v","startRevision":"1"}}"#, 2),
    lines(
        "POST /v3/watch",
        r#"{"create_request":{"key":"Zm9v"}} {"cancel_request":{}}{"progress_request":{}}"#,
        2,
    ),
    post("POST /v3/lease/grant", r#"{"TTL":"600","ID":"4096"}"#),
    post("POST /v3/lease/grant", r#"{"TTL":"600","ID":4096}"#),
    post("POST /v3/lease/grant", r#"{"TTL":"9000000001"}"#),
    post("POST /v3/lease/grant", r#"{"TTL":600,"ID":4097}"#),
    post("POST /v3/kv/put", r#"{"key":"YQ==","lease":"4096"}"#),
    post("POST /v3/lease/timetolive", r#"{"ID":"4096","keys":true}"#),
    post("POST /v3/kv/lease/timetolive", r#"{"ID":"4098"}"#),
    post("POST /v3/lease/leases", "{}"),
    post("POST /v3/kv/lease/leases", ""),
    post("POST /v3/lease/keepalive", r#"{"ID":"4096"}"#),
    post("POST /v3/lease/keepalive", r#"{"ID":"4096"}{"ID":"4098"}"#),
    post("POST /v3/lock/lock", r#"{"name":"bA==","lease":"4096"}"#),
    post("POST /v3/lock/lock", r#"{"name":"bA==","lease":"4096"}"#),
    post("POST /v3/lock/unlock", r#"{"key":"bC8xMDAw"}"#),
    post("POST /v3/lock/lock", r#"{"name":"bA==","lease":"4098"}"#),
    post("POST /v3/lock/unlock", "{}"),
    post("POST /v3/election/leader", r#"{"name":"ZQ=="}"#),
    post("POST /v3/election/campaign", r#"{"name":"ZQ==","lease":"4097","value":"dg=="}"#),
    post("POST /v3/election/leader", r#"{"name":"ZQ=="}"#),
    lines("POST /v3/election/observe", r#"{"name":"ZQ=="}"#, 1),
    post(
        "POST /v3/election/proclaim",
        r#"{"leader":{"name":"ZQ==","key":"ZS8xMDAx","rev":"1","lease":"4097"}}"#,
    ),
    post("POST /v3/election/proclaim", "{}"),
    post("POST /v3/election/resign", "{}"),
    post(
        "POST /v3/election/resign",
        r#"{"leader":{"name":"ZQ==","key":"ZS8xMDAx","rev":"1","lease":"4097"}}"#,
    ),
    post("POST /v3/lease/revoke", r#"{"ID":"4096"}"#),
    post("POST /v3/kv/lease/revoke", r#"{"ID":"4096"}"#),
    post("POST /v3/cluster/member/list", "{}"),
    post("POST /v3/cluster/member/add", r#"{"peerURLs":["nothing"]}"#),
    post("POST /v3/cluster/member/remove", r#"{"ID":"5"}"#),
    post("POST /v3/cluster/member/update", r#"{"ID":"5","peerURLs":["http://127.0.0.1:1"]}"#),
    post("POST /v3/cluster/member/promote", r#"{"ID":"5"}"#),
    post("POST /v3/maintenance/alarm", r#"{"action":"GET"}"#),
    post("POST /v3/maintenance/alarm", r#"{"action":"ACTIVATE","memberID":"7","alarm":"NOSPACE"}"#),
    post("POST /v3/maintenance/alarm", r#"{"action":2,"memberID":7,"alarm":1}"#),
    post("POST /v3/maintenance/status", "{}"),
    post("POST /v3/maintenance/defragment", "{}"),
    post("POST /v3/maintenance/hash", "{}"),
    post("POST /v3/maintenance/hashkv", "{}"),
    post("POST /v3/maintenance/hashkv", r#"{"revision":"1000"}"#),
    lines("POST /v3/maintenance/snapshot", "{}", 1),
    post("POST /v3/maintenance/transfer-leadership", r#"{"targetID":"5"}"#),
    // Versions that 3.5 and 3.7 refuse alike, and an action that neither knows.
    post("POST /v3/maintenance/downgrade", r#"{"action":"VALIDATE","version":"9.9"}"#),
    post("POST /v3/maintenance/downgrade", r#"{"action":"ENABLE","version":"x"}"#),
    post("POST /v3/maintenance/downgrade", r#"{"action":7}"#),
    post("POST /v3", "{}"),
    post("POST //v3/kv/range", "{}"),
    post("POST /v3/kv/../kv/range?a=b", "{}"),
    post("POST /v3/kv%2Frange", r#"{"key":"Zm9v"}"#),
    post("POST /v3/auth/status", "{}"),
    post("POST /v3/auth/user/add", r#"{"name":"root","password":"p"}"#),
    post("POST /v3/auth/user/add", r#"{"name":"root","password":"p"}"#),
    post("POST /v3/auth/user/add", r#"{"name":"u","options":{"no_password":true}}"#),
    post("POST /v3/auth/user/add", "{}"),
    post("POST /v3/auth/user/get", r#"{"name":"u"}"#),
    post("POST /v3/auth/user/get", r#"{"name":"none"}"#),
    post("POST /v3/auth/user/list", "{}"),
    post("POST /v3/auth/role/add", r#"{"name":"root"}"#),
    post("POST /v3/auth/role/add", r#"{"name":"r"}"#),
    post("POST /v3/auth/role/add", r#"{"name":"r"}"#),
    post("POST /v3/auth/role/add", "{}"),
    post(
        "POST /v3/auth/role/grant",
        r#"{"name":"r","perm":{"permType":"READWRITE","key":"YQ==","range_end":"Yg=="}}"#,
    ),
    post("POST /v3/auth/role/grant", r#"{"name":"none","perm":{"key":"YQ=="}}"#),
    post("POST /v3/auth/role/get", r#"{"role":"r"}"#),
    post("POST /v3/auth/role/list", "{}"),
    post("POST /v3/auth/user/grant", r#"{"user":"root","role":"root"}"#),
    post("POST /v3/auth/user/grant", r#"{"user":"u","role":"r"}"#),
    post("POST /v3/auth/user/revoke", r#"{"name":"u","role":"none"}"#),
    post("POST /v3/auth/user/revoke", r#"{"name":"u","role":"r"}"#),
    post("POST /v3/auth/role/revoke", r#"{"role":"r","key":"YQ==","range_end":"Yg=="}"#),
    post("POST /v3/auth/role/revoke", r#"{"role":"r","key":"YQ=="}"#),
    post("POST /v3/auth/role/delete", r#"{"role":"r"}"#),
    post("POST /v3/auth/user/changepw", r#"{"name":"root","password":"q"}"#),
    post("POST /v3/auth/user/delete", r#"{"name":"u"}"#),
    post("POST /v3/auth/enable", "{}"),
    post("POST /v3/auth/authenticate", r#"{"name":"root","password":"wrong"}"#),
    post("POST /v3/auth/authenticate", r#"{"name":"root","password":"q"}"#),
    post("POST /v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#),
    post("POST /v3/auth/disable", "{}"),
];

/// The compared parts of a response: its HTTP status, its JSON values, and some headers.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The values, one for each line, without data that differs from server to server.
    pub values: Vec<Value>,
    /// The headers that matter to browsers and clients.
    pub headers: Vec<String>,
}

/// Sends a request to a server on loopback.
///
/// # Errors
/// When there is no answer in time, or it is not JSON.
pub async fn ask(port: u16, exchange: &Exchange) -> Result<Answer> {
    let asked = tokio::time::timeout(TIME_MAX, exchanged(port, exchange));
    asked.await.context("no answer in time")?.with_context(|| format!("{exchange:?}"))
}

async fn exchanged(port: u16, exchange: &Exchange) -> Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let Exchange { target, body, .. } = exchange;
    let head = format!(
        "{target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://a.example\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await?;
    let mut bytes = Vec::new();
    loop {
        let enough = exchange.lines.is_some_and(|lines| {
            parts(&bytes).is_some_and(|(_, body)| {
                body.iter().filter(|byte| **byte == b'\n').count() >= lines
            })
        });
        if enough || stream.read_buf(&mut bytes).await? == 0 {
            break;
        }
    }
    let (head, body) = parts(&bytes).context("no head of an answer")?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?;
    let compared = ["content-type", "access-control-", "grpc-metadata-", "location"];
    let mut headers: Vec<String> = lines
        .filter(|line| {
            let line = line.to_ascii_lowercase();
            compared.iter().any(|name| line.starts_with(name))
        })
        .map(str::to_ascii_lowercase)
        .collect();
    headers.sort();
    let parsed = serde_json::Deserializer::from_slice(&body).into_iter();
    let parsed: Result<Vec<Value>, serde_json::Error> = parsed.collect();
    // The response for a path outside the gateway is plain text.
    let mut values =
        parsed.unwrap_or_else(|_| vec![Value::from(String::from_utf8_lossy(&body).into_owned())]);
    values.truncate(exchange.lines.unwrap_or(usize::MAX));
    values.iter_mut().for_each(mask);
    Ok(Answer { status: status.parse()?, values, headers })
}

/// The head and the body so far, with chunked encoding removed; `None` before the end of the head.
fn parts(bytes: &[u8]) -> Option<(String, Vec<u8>)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut rest = &bytes[end + 4..];
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return Some((head, rest.to_vec()));
    }
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        let chunk = &rest[line + 2..];
        body.extend_from_slice(&chunk[..len.min(chunk.len())]);
        rest = chunk.get(len + 2..).unwrap_or_default();
    }
    Some((head, body))
}

/// Replaces data that differs from server to server: ids, sizes, indexes, hashes, and the texts of
/// JSON syntax errors. Removes fields that Go's etcd 3.5 does not have.
fn mask(value: &mut Value) {
    const NEWER: [&str; 5] =
        ["hash_revision", "storageVersion", "dbSizeQuota", "downgradeInfo", "details"];
    const CHANGING: [&str; 16] = [
        "cluster_id",
        "member_id",
        "raft_term",
        "raftTerm",
        "raftIndex",
        "raftAppliedIndex",
        "leader",
        "dbSize",
        "dbSizeInUse",
        "remaining_bytes",
        "blob",
        "hash",
        "name",
        "clientURLs",
        "peerURLs",
        "token",
    ];
    match value {
        Value::Array(values) => values.iter_mut().for_each(mask),
        Value::Object(fields) => {
            let is_snapshot = fields.contains_key("blob");
            fields.retain(|name, _| {
                !(NEWER.contains(&name.as_str()) || is_snapshot && name == "version")
            });
            let is_member = fields.contains_key("peerURLs");
            let is_status = fields.contains_key("raftIndex");
            let has_remaining_time = fields.contains_key("grantedTTL");
            for (name, value) in fields.iter_mut() {
                let is_masked = match name.as_str() {
                    "ID" => is_member,
                    "version" => is_status,
                    "TTL" => has_remaining_time,
                    "message" => value.as_str().is_some_and(|text| {
                        text.starts_with("proto:") || text.starts_with("invalid character")
                    }),
                    // A leader is an object, too.
                    name => CHANGING.contains(&name) && !value.is_object(),
                };
                if is_masked {
                    *value = Value::from("*");
                } else {
                    mask(value);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Compares the answers of two servers to every request.
///
/// # Errors
/// When one of them differs.
pub async fn compare(ours: u16, theirs: u16) -> Result<usize> {
    let mut different = 0;
    for exchange in EXCHANGES {
        let (our, their) = (ask(ours, exchange).await?, ask(theirs, exchange).await?);
        if our != their {
            different += 1;
            tell(exchange, &our, &their);
        }
    }
    if different > 0 {
        bail!("{different} of {} answers differ", EXCHANGES.len());
    }
    Ok(EXCHANGES.len())
}

#[expect(clippy::print_stdout, reason = "a program that reports")]
fn tell(exchange: &Exchange, our: &Answer, their: &Answer) {
    println!("{} {}\nours:   {our:?}\ntheirs: {their:?}\n", exchange.target, exchange.body);
}

//! The HTTP endpoints beside gRPC: `/health`, `/livez`, `/readyz`, `/version`, `/metrics`,
//! `/debug/vars` for clients, `/version` and `/members` for peers.
//!
//! The responses are computed from a [`StatusSource`]; the caller owns sockets and framing.
//!
//! Source: etcd server/etcdserver/api/etcdhttp/{health,version,metrics,peer,debug}.go @ v3.7.1.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use std::collections::BTreeSet;
use std::future::Future;

/// The value of `etcdserver` in `/version`.
pub const VERSION: &str = "3.7.1";

/// The path of the variables, which only the client port has.
pub const VARIABLES: &str = "/debug/vars";

const NOT_ALLOWED: &str = "Method Not Allowed";

/// An alarm that is raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The quota is used up.
    NoSpace,
    /// Members differ.
    Corrupt,
    /// A kind that this version does not know.
    Unknown,
}

impl Alarm {
    /// The name in `?exclude=`.
    fn name(self) -> &'static str {
        match self {
            Self::NoSpace => "NOSPACE",
            Self::Corrupt => "CORRUPT",
            Self::Unknown => "UNKNOWN",
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::NoSpace => "ALARM NOSPACE",
            Self::Corrupt => "ALARM CORRUPT",
            Self::Unknown => "ALARM UNKNOWN",
        }
    }
}

/// The state that the endpoints report.
pub trait StatusSource {
    /// Alarms that are raised, of any member.
    fn alarms(&self) -> Vec<Alarm>;
    /// Whether a leader is known.
    fn has_leader(&self) -> bool;
    /// Whether this member is a learner.
    fn is_learner(&self) -> bool;
    /// The cluster's version, `3.7.0`, once it is decided.
    fn cluster_version(&self) -> Option<String>;
    /// The version of this server that other members are told: at most the cluster's version, if
    /// that is not to be raised.
    fn announced_version(&self) -> String;
    /// The version of the data, `3.7.0`, where it is recorded.
    fn storage_version(&self) -> Option<String>;
    /// Reads one key within the request's time limit; the error is the range's message.
    fn read(&self, linearizable: bool) -> impl Future<Output = Result<(), String>>;
    /// The text of `/metrics`.
    fn metrics(&self) -> Vec<u8>;
    /// The variables of `/debug/vars` in their order: each name, and its value as JSON.
    fn variables(&self) -> impl Future<Output = Vec<(&'static str, String)>>;
    /// Counts an answer of `/health`.
    fn count_health(&self, healthy: bool);
    /// Counts a check of `livez` or `readyz`.
    fn count_check(&self, kind: &'static str, name: &'static str, passed: bool);
}

/// Answers a client's request that is not gRPC; `None` when the path is not of these endpoints.
pub async fn client<F: StatusSource>(
    source: &F,
    method: &Method,
    path: &str,
    query: &str,
) -> Option<Response<Bytes>> {
    Some(match path {
        "/health" => health(source, method, query).await,
        "/version" => version(source, method, VERSION),
        "/metrics" => metrics(source),
        VARIABLES => variables(source, method).await,
        _ => {
            let (kind, wanted) = check_path(path)?;
            checks(source, (kind, wanted), method, query).await
        }
    })
}

/// Answers a peer's request. `members` is the JSON of `/members`.
pub fn peer<F: StatusSource>(
    source: &F,
    method: &Method,
    path: &str,
    members: impl FnOnce() -> String,
) -> Response<Bytes> {
    match path {
        "/version" => version(source, method, &source.announced_version()),
        "/members" if method == Method::GET => {
            json(StatusCode::OK, format!("{}\n", members().trim_end()))
        }
        "/members" => not_allowed(),
        _ => not_found(),
    }
}

/// Go's response to an unknown path.
pub fn not_found() -> Response<Bytes> {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

async fn health<F: StatusSource>(source: &F, method: &Method, query: &str) -> Response<Bytes> {
    if method != Method::GET {
        tracing::warn!("status-code" = 405, "/health error");
        return not_allowed();
    }
    let excluded = values(query, "exclude");
    let serializable = values(query, "serializable").first().is_some_and(|v| v == "true");
    let mut reason = String::new();
    if let Some(alarm) =
        source.alarms().into_iter().find(|a| !excluded.iter().any(|e| e == a.name()))
    {
        tracing::warn!(alarm = alarm.name(), "serving /health false due to an alarm");
        alarm.reason().clone_into(&mut reason);
    } else if !serializable && !source.has_leader() {
        tracing::warn!("serving /health false; no leader");
        "RAFT NO LEADER".clone_into(&mut reason);
    } else if let Err(error) = source.read(!serializable).await {
        tracing::warn!(error, "serving /health false; Range fails");
        reason = format!("RANGE ERROR:{error}");
    }
    source.count_health(reason.is_empty());
    health_answer(&reason)
}

/// The response of `/health`: healthy if there is no reason not to be.
#[must_use]
pub fn health_answer(reason: &str) -> Response<Bytes> {
    if reason.is_empty() {
        return text(StatusCode::OK, "{\"health\":\"true\",\"reason\":\"\"}");
    }
    let body = serde_json::json!({"health": "false", "reason": reason}).to_string();
    tracing::warn!(output = body, "status-code" = 503, "/health error");
    error(StatusCode::SERVICE_UNAVAILABLE, &body)
}

/// The response of `/metrics` with this text.
#[must_use]
pub fn metrics_answer(text: Vec<u8>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The response when a request fails for a reason that is none of the client.
#[must_use]
pub fn internal_error() -> Response<Bytes> {
    error(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
}

const LIVEZ: &[&str] = &["serializable_read"];
const READYZ: &[&str] =
    &["data_corruption", "serializable_read", "linearizable_read", "non_learner"];

/// The kind and the checks that a path asks for.
fn check_path(path: &str) -> Option<(&'static str, Vec<&'static str>)> {
    for (kind, root, all) in [("livez", "/livez", LIVEZ), ("readyz", "/readyz", READYZ)] {
        let Some(rest) = path.strip_prefix(root) else { continue };
        if rest.is_empty() {
            return Some((kind, all.to_vec()));
        }
        let name = rest.strip_prefix('/')?;
        return all.iter().find(|c| **c == name).map(|c| (kind, vec![*c]));
    }
    None
}

async fn checks<F: StatusSource>(
    source: &F,
    (kind, wanted): (&'static str, Vec<&'static str>),
    method: &Method,
    query: &str,
) -> Response<Bytes> {
    if method != Method::GET {
        tracing::warn!(path = kind, "status-code" = 405, "Health request error");
        return not_allowed();
    }
    // A path with one check takes no exclusions.
    let whole = wanted.len() > 1 || kind == "livez";
    let mut excluded: BTreeSet<String> = BTreeSet::new();
    if whole {
        excluded.extend(values(query, "exclude").into_iter().filter(|v| !v.is_empty()));
    }
    let (mut report, mut failed) = (String::new(), false);
    for name in wanted {
        if excluded.remove(name) {
            continue;
        }
        let result = check(source, name).await;
        source.count_check(kind, name, result.is_ok());
        match result {
            Ok(()) => report.push_str(&format!("[+]{name} ok\n")),
            Err(why) => {
                failed = true;
                report.push_str(&format!("[-]{name} failed: {why}\n"));
            }
        }
    }
    if !excluded.is_empty() {
        let names: Vec<_> = excluded.iter().map(|e| format!("{e:?}")).collect();
        let names = names.join(",");
        tracing::warn!("missing-health-checks" = names, "some health checks cannot be excluded");
    }
    if failed {
        tracing::error!(path = kind, reason = report, "status-code" = 503, "Health check error");
        return error(StatusCode::SERVICE_UNAVAILABLE, &report);
    }
    let verbose = query.split('&').any(|p| p == "verbose" || p.starts_with("verbose="));
    let body = if verbose { report + "ok\n" } else { "ok\n".to_owned() };
    no_sniff(text(StatusCode::OK, &body))
}

async fn check<F: StatusSource>(source: &F, name: &str) -> Result<(), String> {
    match name {
        "data_corruption" if source.alarms().contains(&Alarm::Corrupt) => {
            Err("alarm activated: CORRUPT".to_owned())
        }
        "non_learner" if source.is_learner() => Err("not supported for learner".to_owned()),
        "serializable_read" => source.read(false).await.map_err(|e| format!("range error: {e}")),
        "linearizable_read" => source.read(true).await.map_err(|e| format!("range error: {e}")),
        _ => Ok(()),
    }
}

fn version<F: StatusSource>(source: &F, method: &Method, server: &str) -> Response<Bytes> {
    if method != Method::GET {
        return not_allowed();
    }
    let cluster = source.cluster_version().unwrap_or_else(|| "not_decided".to_owned());
    let storage = source.storage_version().unwrap_or_else(|| "unknown".to_owned());
    let body =
        format!(r#"{{"etcdserver":"{server}","etcdcluster":"{cluster}","storage":"{storage}"}}"#);
    json(StatusCode::OK, body)
}

fn metrics<F: StatusSource>(source: &F) -> Response<Bytes> {
    metrics_answer(source.metrics())
}

async fn variables<F: StatusSource>(source: &F, method: &Method) -> Response<Bytes> {
    if method != Method::GET {
        return not_allowed();
    }
    let variables = source.variables().await;
    let lines: Vec<String> =
        variables.iter().map(|(name, value)| format!("{name:?}: {value}")).collect();
    let body = format!("{{\n{}\n}}\n", lines.join(",\n"));
    with_type(StatusCode::OK, body, "application/json; charset=utf-8")
}

/// The values of a key in a query string, percent-decoded.
fn values(query: &str, key: &str) -> Vec<String> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(name, _)| *name == key)
        .map(|(_, value)| decode(value))
        .collect()
}

fn decode(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        match (byte, hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(decoded)) => {
                out.push(decoded);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn text(status: StatusCode, body: &str) -> Response<Bytes> {
    with_type(status, body.to_owned(), "text/plain; charset=utf-8")
}

fn json(status: StatusCode, body: String) -> Response<Bytes> {
    with_type(status, body, "application/json")
}

/// Go's `http.Error`: plain text with a newline at the end.
fn error(status: StatusCode, body: &str) -> Response<Bytes> {
    no_sniff(text(status, &format!("{body}\n")))
}

/// Go's response to a method that is not GET.
#[must_use]
pub fn not_allowed() -> Response<Bytes> {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, NOT_ALLOWED);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    response
}

fn no_sniff(mut response: Response<Bytes>) -> Response<Bytes> {
    let no_sniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert("x-content-type-options", no_sniff);
    response
}

fn with_type(status: StatusCode, body: String, kind: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests;

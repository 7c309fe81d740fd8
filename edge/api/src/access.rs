//! Access rules of plain HTTP on the clients' ports: the host names and origins that are allowed,
//! whether the JSON gateway is served, and whether a port serves HTTP at all.
//!
//! Source: etcd v3.7 server/embed/serve.go accessController, server/etcdserver/server_access_control.go.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    CONTENT_TYPE, HOST, ORIGIN,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use rpc::body::{Body, Reply};
use rpc::{Code, Status};

/// What a clients' port serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Traffic {
    /// gRPC and plain HTTP.
    #[default]
    All,
    /// gRPC alone, since plain HTTP has a port of its own.
    Grpc,
    /// Plain HTTP alone: `--listen-client-http-urls`.
    Http,
}

impl Traffic {
    /// Its name in the log, as in etcd.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Traffic::All => "grpc+http",
            Traffic::Grpc => "grpc",
            Traffic::Http => "http",
        }
    }
}

/// The response to a request of plain HTTP on a port of [`Traffic::Grpc`]. Over HTTP/2 it is that of
/// grpc-go 1.82; etcd answers HTTP/1.1 there with bytes of HTTP/2, which say nothing to the client.
pub(crate) fn only_grpc(request: &Parts) -> Reply {
    let mut reply = if request.version == http::Version::HTTP_2 {
        let kind = request.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let kind = rpc::status::go_quoted(kind);
        let why = format!("invalid gRPC request content-type {kind}");
        rpc::body::refuse(&Status::new(Code::InvalidArgument, why))
    } else {
        let text =
            "this port serves gRPC only; the ports of --listen-client-http-urls serve HTTP\n";
        let mut reply = Response::new(Body::plain(text.into()));
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        reply.headers_mut().insert(CONTENT_TYPE, plain);
        reply
    };
    *reply.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    reply
}

/// The options of plain HTTP.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Whether the JSON gateway is served under `/v3/`: `--enable-grpc-gateway`.
    pub gateway: bool,
    /// The origins whose pages may read the responses, `*` for all: `--cors`.
    pub origins: Vec<String>,
    /// The host names that requests may carry, `*` for all: `--host-whitelist`.
    pub hosts: Vec<String>,
}

impl Default for HttpOptions {
    fn default() -> HttpOptions {
        let all = || vec!["*".to_owned()];
        HttpOptions { gateway: true, origins: all(), hosts: all() }
    }
}

/// An empty list allows everything, as `*` does.
fn allows(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|allowed| allowed == "*" || allowed == name)
}

impl HttpOptions {
    /// Answers a request that is not passed on: one whose host name is not allowed, or a browser's
    /// preflight request (OPTIONS). With TLS every host name is allowed, since DNS rebinding fails
    /// there: the attacker's host name does not match the server's certificate.
    pub(crate) fn answer(&self, request: &Parts, is_secure: bool) -> Option<Reply> {
        let host = host(request);
        if !is_secure && !allows(&self.hosts, host) {
            tracing::warn!(host, "rejecting HTTP request to prevent DNS rebinding attacks");
            return Some(misdirected(host));
        }
        (request.method == Method::OPTIONS).then(|| Response::new(Body::plain("".into())))
    }

    /// The value of the header `Access-Control-Allow-Origin`.
    pub(crate) fn allowed_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if allows(&self.origins, "*") {
            return Some(HeaderValue::from_static("*"));
        }
        let origin = headers.get(ORIGIN)?;
        allows(&self.origins, origin.to_str().ok()?).then(|| origin.clone())
    }
}

/// Adds the CORS headers.
pub(crate) fn allow(reply: &mut Reply, origin: HeaderValue) {
    let headers = reply.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let methods = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    let allowed = HeaderValue::from_static("accept, content-type, authorization");
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
}

/// The host name of a request, without the port.
fn host(request: &Parts) -> &str {
    let header = request.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = request.uri.authority().map(http::uri::Authority::as_str).or(header);
    let host = host.unwrap_or_default();
    // An IPv6 address stands in brackets.
    match host.rsplit_once(':') {
        Some((name, _)) if name.starts_with('[') && name.ends_with(']') => &name[1..name.len() - 1],
        Some((name, _)) if !name.contains(':') => name,
        _ => host,
    }
}

fn misdirected(host: &str) -> Reply {
    let name = rpc::status::go_quoted(host.as_bytes());
    let text = format!(
        "\netcd received your request, but the Host header was unrecognized.\n\nTo fix this, choose \
         one of the following options:\n- Enable TLS, then any HTTPS request will be allowed.\n- Add \
         the hostname you want to use to the whitelist in settings.\n  - e.g. etcd \
         --host-whitelist {name}\n\nThis requirement has been added to help prevent \"DNS \
         Rebinding\" attacks (CVE-2018-5702).\n\n"
    );
    let mut reply = Response::new(Body::plain(text.into()));
    *reply.status_mut() = StatusCode::MISDIRECTED_REQUEST;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn options(origins: &[&str], hosts: &[&str]) -> HttpOptions {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        HttpOptions { gateway: true, origins: owned(origins), hosts: owned(hosts) }
    }

    fn request(host: &str) -> Parts {
        Request::get("/version").header(HOST, host).body(()).unwrap().into_parts().0
    }

    #[test]
    fn cve_2018_1099_other_host_names_are_refused() {
        let options = options(&["*"], &["a.example", "::1"]);
        for (host, is_allowed) in [
            ("a.example", true),
            ("a.example:2379", true),
            ("[::1]:2379", true),
            ("b.example:2379", false),
            ("", false),
        ] {
            let answer = options.answer(&request(host), false);
            let status = answer.map(|reply| reply.status().as_u16());
            assert_eq!(status, (!is_allowed).then_some(421), "{host}");
        }
        assert!(HttpOptions::default().answer(&request("anything"), false).is_none());
        assert!(options.answer(&request("b.example"), true).is_none(), "with TLS all are allowed");
    }

    #[test]
    fn cve_2018_1098_pages_of_other_origins_may_not_read_answers() {
        let of = |options: &HttpOptions, origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.extend(origin.map(|origin| (ORIGIN, HeaderValue::from_static(origin))));
            options.allowed_origin(&headers)
        };
        assert_eq!(of(&HttpOptions::default(), None).unwrap(), "*");
        let one = options(&["http://a.example"], &["*"]);
        assert_eq!(of(&one, Some("http://a.example")).unwrap(), "http://a.example");
        assert_eq!(of(&one, Some("http://b.example")), None);
        assert_eq!(of(&one, None), None);
    }

    #[test]
    fn a_question_about_options_is_answered() {
        let (request, ()) = Request::options("/v3/kv/put").body(()).unwrap().into_parts();
        assert_eq!(HttpOptions::default().answer(&request, false).unwrap().status(), 200);
    }
}

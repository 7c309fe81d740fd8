//! The head of a call, before its handler: the HTTP method, the time limit, and the status of a call
//! that has no handler. For every server of gRPC (`api`, `grpcproxy`).
//!
//! Source: grpc-go 1.82, whose messages these are.

use crate::body::{Reply, refuse};
use crate::status::{go_quoted, timeout};
use crate::{Code, Status};
use http::request::Parts;
use std::time::Duration;

/// The time limit of a call, from the header `grpc-timeout`.
///
/// # Errors
/// The response to a request that is no call.
pub fn time_limit(head: &Parts) -> Result<Option<Duration>, Box<Reply>> {
    if head.method != http::Method::POST {
        let why = format!(
            "Received a HEADERS frame with :method \"{}\" which should be POST",
            head.method
        );
        let mut reply = refuse(&Status::new(Code::Internal, why));
        *reply.status_mut() = http::StatusCode::METHOD_NOT_ALLOWED;
        return Err(Box::new(reply));
    }
    timeout(&head.headers).map_err(|status| {
        let mut reply = refuse(&status);
        *reply.status_mut() = http::StatusCode::BAD_REQUEST;
        Box::new(reply)
    })
}

/// The status of a call to a method without a handler. `services` are those with handlers.
#[must_use]
pub fn unknown_method(path: &str, services: &[&str]) -> Status {
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.rsplit_once('/'))
    else {
        let path = go_quoted(path.as_bytes());
        return Status::new(Code::Unimplemented, format!("malformed method name: {path}"));
    };
    let why = if services.contains(&service) {
        format!("unknown method {method} for service {service}")
    } else {
        format!("unknown service {service}")
    };
    Status::new(Code::Unimplemented, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_without_a_handler_get_the_messages_of_grpc_go() {
        let services = ["etcdserverpb.KV", "v3lockpb.Lock"];
        for (path, want) in [
            ("/etcdserverpb.KV/Foo", "unknown method Foo for service etcdserverpb.KV"),
            ("/a/b/Foo", "unknown service a/b"),
            ("/Foo", "malformed method name: \"/Foo\""),
            ("*", "malformed method name: \"*\""),
            ("/v3lockpb.Lock/Foo", "unknown method Foo for service v3lockpb.Lock"),
        ] {
            let status = unknown_method(path, &services);
            assert_eq!((status.code, &status.message[..]), (Code::Unimplemented, want));
        }
    }
}

//! The payload of a normal entry of the raft log: a request of the v3 API, or, up to 3.5 and in
//! part in 3.6, a bare v2 request. No field marks which one it is. Etcd first decodes the bytes
//! strictly as a v3 request, whose field 2 is a v2 request. In a bare v2 request field 2 is the
//! name of the method, which never decodes as a message, so the first attempt fails for it.
//!
//! Source: etcd v3.6 server/etcdserver/server.go `applyEntryNormal`.

use bytes::Bytes;
use prost::Message as _;
use proto::etcdserverpb::{InternalRaftRequest, Request};
use std::fmt;

/// The methods that v2 requests in a log can have.
const METHODS: [&str; 7] = ["PUT", "POST", "DELETE", "QGET", "SYNC", "GET", "HEAD"];

/// The payload of an entry.
#[derive(Clone, Debug, PartialEq)]
pub enum EntryPayload {
    /// A request of the v3 API.
    Request(Box<InternalRaftRequest>),
    /// A v2 request.
    V2(Box<Request>),
}

/// An entry whose data is neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEntry {
    /// Why it is not a v3 request.
    pub v3: String,
    /// Why it is not a v2 request.
    pub v2: String,
}

impl fmt::Display for BadEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "neither a v3 request ({}) nor a v2 request ({})", self.v3, self.v2)
    }
}

impl std::error::Error for BadEntry {}

/// Decodes the data of a normal entry. The caller handles empty data, the first entry of a
/// leader.
///
/// # Errors
/// When it is neither a v3 nor a v2 request.
pub fn classify(data: &Bytes) -> Result<EntryPayload, BadEntry> {
    let v3 = match InternalRaftRequest::decode(data.clone()) {
        Ok(mut request) => {
            return Ok(match request.v2.take() {
                Some(v2) => EntryPayload::V2(Box::new(v2)),
                None => EntryPayload::Request(Box::new(request)),
            });
        }
        Err(error) => error.to_string(),
    };
    match Request::decode(data.clone()) {
        Ok(request) if METHODS.contains(&request.method()) => {
            Ok(EntryPayload::V2(Box::new(request)))
        }
        Ok(request) => Err(BadEntry { v3, v2: format!("unknown method {:?}", request.method()) }),
        Err(error) => Err(BadEntry { v3, v2: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::etcdserverpb::{PutRequest, RequestHeader};

    /// As gogo writes it: every field but the nullable ones, zeros too.
    fn v2_request(method: &str, path: &str) -> Request {
        Request {
            id: Some(0x1234_5678_9abc_def0),
            method: Some(method.into()),
            path: Some(path.into()),
            val: Some(r#"{"name":"n1"}"#.into()),
            dir: Some(false),
            prev_value: Some(String::new()),
            prev_index: Some(0),
            prev_exist: None,
            expiration: Some(0),
            wait: Some(false),
            since: Some(0),
            recursive: Some(false),
            sorted: Some(false),
            quorum: Some(false),
            time: Some(0),
            stream: Some(false),
            refresh: None,
        }
    }

    #[test]
    fn every_method_of_a_v2_request_is_told() {
        for method in METHODS {
            let request = v2_request(method, "/1/key");
            let payload = classify(&request.encode_to_vec().into());
            assert_eq!(payload, Ok(EntryPayload::V2(Box::new(request))), "{method}");
        }
    }

    #[test]
    fn a_v2_request_inside_a_v3_request_is_found() {
        let v2 = v2_request("PUT", "/0/version");
        let wrapped = InternalRaftRequest { v2: Some(v2.clone()), ..Default::default() };
        let payload = classify(&wrapped.encode_to_vec().into());
        assert_eq!(payload, Ok(EntryPayload::V2(Box::new(v2))));
    }

    #[test]
    fn a_v3_request_is_told() {
        let header = RequestHeader { id: 7, username: "root".into(), auth_revision: 3 };
        let put = PutRequest { key: "PUT".into(), value: "PUT".into(), ..Default::default() };
        let request =
            InternalRaftRequest { header: Some(header), put: Some(put), ..Default::default() };
        let payload = classify(&request.encode_to_vec().into());
        assert_eq!(payload, Ok(EntryPayload::Request(Box::new(request))));
    }

    #[test]
    fn other_bytes_are_neither() {
        let no_method = Request { method: Some("\u{1}".into()), ..v2_request("PUT", "/") };
        for data in [vec![0xff], vec![0x08], no_method.encode_to_vec()] {
            assert!(classify(&data.clone().into()).is_err(), "{data:x?}");
        }
        let mut cut = v2_request("PUT", "/1/key").encode_to_vec();
        cut.truncate(cut.len() - 1);
        assert!(classify(&cut.into()).is_err());
    }
}

//! Messages as JSON: names as in the .proto files, 64-bit integers as strings, bytes as base64,
//! enumerations by name, and no fields with default values. Requests may also have names in camel
//! case, numbers instead of strings and names, and base64 in either alphabet without padding; fields
//! that are not known are ignored.
//!
//! Source: etcd v3.7 server/embed/serve.go registerGateway; protobuf's JSON mapping
//! (protobuf.dev/programming-guides/json).

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MethodDescriptor, SerializeOptions,
};
use rpc::{Code, Status};
use std::sync::OnceLock;

/// Longer responses, in bytes, are converted on a thread of the blocking pool.
const INLINE_MAX: usize = 256 * 1024;

const FROM_JSON: DeserializeOptions = DeserializeOptions::new().deny_unknown_fields(false);
const TO_JSON: SerializeOptions =
    SerializeOptions::new().use_proto_field_name(true).skip_default_fields(true);

/// The descriptors of all services.
fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        DescriptorPool::decode(rpc::stubs::DESCRIPTORS)
            .unwrap_or_else(|error| panic!("the build has made bad descriptors: {error}"))
    })
}

/// A gRPC method whose messages can be converted.
#[derive(Clone, Debug)]
pub(super) struct Method {
    /// Its path.
    pub(super) path: &'static str,
    descriptor: MethodDescriptor,
}

impl Method {
    /// The method at a gRPC path.
    pub(super) fn find(path: &'static str) -> Option<Method> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let service = pool().get_service_by_name(service)?;
        let descriptor = service.methods().find(|found| found.name() == method)?;
        Some(Method { path, descriptor })
    }

    /// Whether the client sends a stream.
    pub(super) fn streams_requests(&self) -> bool {
        self.descriptor.is_client_streaming()
    }

    /// Whether the server sends a stream.
    pub(super) fn streams_responses(&self) -> bool {
        self.descriptor.is_server_streaming()
    }

    /// The request that a JSON object describes, encoded.
    ///
    /// # Errors
    /// InvalidArgument, when it is not such an object.
    pub(super) fn request(&self, object: &[u8]) -> Result<Bytes, Status> {
        let wrong = |error: serde_json::Error| {
            Status::new(Code::InvalidArgument, format!("proto: {error}"))
        };
        let mut json = serde_json::Deserializer::from_slice(object);
        let descriptor = self.descriptor.input();
        let message = DynamicMessage::deserialize_with_options(descriptor, &mut json, &FROM_JSON);
        let message = message.map_err(wrong)?;
        json.end().map_err(wrong)?;
        Ok(message.encode_to_vec().into())
    }

    /// Converts an encoded response to JSON. A response of a stream becomes one line,
    /// `{"result":…}`.
    ///
    /// # Errors
    /// Internal, when the message is not of this method.
    pub(super) async fn response(
        &self,
        message: Bytes,
        is_in_stream: bool,
    ) -> Result<Bytes, Status> {
        if message.len() <= INLINE_MAX {
            return self.converted(message, is_in_stream);
        }
        let method = self.clone();
        let converted =
            tokio::task::spawn_blocking(move || method.converted(message, is_in_stream));
        converted.await.unwrap_or_else(|error| Err(failed(error)))
    }

    fn converted(&self, message: Bytes, is_in_stream: bool) -> Result<Bytes, Status> {
        let message = DynamicMessage::decode(self.descriptor.output(), message).map_err(failed)?;
        let mut text = Vec::new();
        if is_in_stream {
            text.extend_from_slice(b"{\"result\":");
        }
        let mut json = serde_json::Serializer::new(&mut text);
        message.serialize_with_options(&mut json, &TO_JSON).map_err(failed)?;
        if is_in_stream {
            text.extend_from_slice(b"}\n");
        }
        Ok(text.into())
    }
}

fn failed(error: impl std::fmt::Display) -> Status {
    Status::new(Code::Internal, format!("retcd: cannot write a response as JSON: {error}"))
}

/// The paths of all methods.
#[cfg(test)]
pub(super) fn all_methods() -> Vec<String> {
    let methods = pool().services().flat_map(|service| service.methods().collect::<Vec<_>>());
    methods
        .map(|method| format!("/{}/{}", method.parent_service().full_name(), method.name()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::etcdserverpb::{LeaseGrantRequest, PutResponse, RangeRequest, ResponseHeader};
    use proto::mvccpb::KeyValue;

    fn range(object: &str) -> Result<RangeRequest, String> {
        let method = Method::find("/etcdserverpb.KV/Range").unwrap();
        let encoded = method.request(object.as_bytes());
        let encoded = encoded.map_err(|status| status.message.into_owned())?;
        Ok(RangeRequest::decode(encoded).unwrap())
    }

    #[test]
    fn requests_are_read_as_go_reads_them() {
        let all = RangeRequest {
            key: vec![255, 239].into(),
            limit: 5,
            keys_only: true,
            sort_target: 1,
            ..RangeRequest::default()
        };
        for same in [
            r#"{"key":"/+8=","limit":"5","keys_only":true,"sort_target":"VERSION"}"#,
            r#"{"key":"_-8","limit":5,"keysOnly":true,"sortTarget":1,"more":[{"a":1}]}"#,
            r#" {"key":"_-8=","limit":5.0,"keysOnly":true,"sortTarget":"VERSION","revision":null} "#,
        ] {
            assert_eq!(range(same), Ok(all.clone()), "{same}");
        }
        assert_eq!(range(r#"{"sort_order":"SIDEWAYS"}"#), Ok(RangeRequest::default()));
        assert_eq!(range(r#"{"sort_order":9}"#).unwrap().sort_order, 9);
        for wrong in [r#"{"key":5}"#, r#"{"key":"!"}"#, r#"{"limit":5.5}"#, "[]", "null", "x"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
        let method = Method::find("/etcdserverpb.Lease/LeaseGrant").unwrap();
        let encoded = method.request(br#"{"TTL":"3","ID":4}"#).unwrap();
        assert_eq!(
            LeaseGrantRequest::decode(encoded).unwrap(),
            LeaseGrantRequest { ttl: 3, id: 4 }
        );
    }

    #[tokio::test]
    async fn responses_have_gos_names_and_no_defaults() {
        let method = Method::find("/etcdserverpb.KV/Put").unwrap();
        let header = ResponseHeader { revision: 3, raft_term: u64::MAX, ..Default::default() };
        let prev_kv = KeyValue { key: "foo".into(), mod_revision: 2, ..KeyValue::default() };
        let message = PutResponse { header: Some(header), prev_kv: Some(prev_kv) };
        let message = Bytes::from(message.encode_to_vec());
        let text = method.response(message.clone(), false).await.unwrap();
        let want = r#"{"header":{"revision":"3","raft_term":"18446744073709551615"},"prev_kv":{"key":"Zm9v","mod_revision":"2"}}"#;
        assert_eq!(text, want);
        assert_eq!(
            method.response(message, true).await.unwrap(),
            format!("{{\"result\":{want}}}\n")
        );
    }
}

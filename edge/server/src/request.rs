//! The encoding of a request for the log.

use bytes::Bytes;
use prost::Message as _;
use proto::Op;
use proto::etcdserverpb::{InternalRaftRequest, RequestHeader};

/// The field number of `InternalRaftRequest.header`.
const HEADER_TAG: u32 = 100;
/// The bytes of a header without a user, with its tag and length: two numbers of up to 10 bytes.
const HEADER_ROOM: usize = 32;

/// A request in the form of the log, without its header. A request is encoded before a call waits for
/// anything, because an `InternalRaftRequest` has 1.5 kB, and each future that passes it on would
/// have room for it: a call would need 11 kB while it waits.
#[derive(Debug)]
pub struct EncodedRequest {
    op: Op,
    bytes: Vec<u8>,
    /// The revision of a compaction that is answered when it has removed everything.
    physical_compaction: Option<i64>,
}

impl EncodedRequest {
    /// Encodes a request that has no header.
    #[must_use]
    pub fn new(request: &InternalRaftRequest) -> EncodedRequest {
        debug_assert!(request.header.is_none(), "the header is added last");
        let mut bytes = Vec::with_capacity(request.encoded_len() + HEADER_ROOM);
        request.encode_raw(&mut bytes);
        let physical = request.compaction.as_ref().filter(|compaction| compaction.physical);
        let physical_compaction = physical.map(|compaction| compaction.revision);
        EncodedRequest { op: Op::of(request), bytes, physical_compaction }
    }

    /// The kind of the request.
    #[must_use]
    pub fn op(&self) -> Op {
        self.op
    }

    /// The revision of a compaction that is answered when it has removed everything.
    pub(crate) fn physical_compaction(&self) -> Option<i64> {
        self.physical_compaction
    }

    /// The whole request. Decoders take the fields of a message in any order.
    pub(crate) fn with_header(mut self, header: &RequestHeader) -> Bytes {
        prost::encoding::message::encode(HEADER_TAG, header, &mut self.bytes);
        Bytes::from(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::etcdserverpb::{AuthStatusRequest, CompactionRequest, PutRequest};

    fn decoded_with_header(request: InternalRaftRequest) -> (InternalRaftRequest, Bytes) {
        let header = RequestHeader { id: 7 << 48, username: "a user".into(), auth_revision: 3 };
        let bytes = EncodedRequest::new(&request).with_header(&header);
        (InternalRaftRequest { header: Some(header), ..request }, bytes)
    }

    #[test]
    fn a_request_of_a_client_is_encoded_as_a_whole_message_is() {
        let put = PutRequest { key: "k".into(), value: "v".into(), lease: 5, ..Default::default() };
        let (whole, bytes) = decoded_with_header(InternalRaftRequest {
            put: Some(put),
            ..InternalRaftRequest::default()
        });
        assert_eq!(bytes, whole.encode_to_vec());
    }

    #[test]
    fn a_request_with_fields_after_the_header_is_decoded_as_it_was() {
        let (whole, bytes) = decoded_with_header(InternalRaftRequest {
            auth_status: Some(AuthStatusRequest {}),
            ..InternalRaftRequest::default()
        });
        assert_eq!(InternalRaftRequest::decode(bytes).unwrap(), whole);
    }

    #[test]
    fn only_a_physical_compaction_has_a_revision_to_wait_for() {
        let encoded = |physical| {
            EncodedRequest::new(&InternalRaftRequest {
                compaction: Some(CompactionRequest { revision: 9, physical }),
                ..InternalRaftRequest::default()
            })
        };
        assert_eq!(encoded(true).physical_compaction(), Some(9));
        assert_eq!(encoded(false).physical_compaction(), None);
    }
}

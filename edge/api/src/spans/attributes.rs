//! The attributes of the spans of requests.
//!
//! Source: etcd server/etcdserver/{v3_server,tracing}.go, api/v3rpc/watch.go @ v3.7.1.

use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
};

/// Details of a span or an event: names and values.
pub type SpanAttributes = Vec<(&'static str, AttributeValue)>;

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    /// A text; a key that is not UTF-8 has replacement characters.
    Text(String),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> AttributeValue {
        AttributeValue::Text(text.to_owned())
    }
}

impl From<&[u8]> for AttributeValue {
    fn from(key: &[u8]) -> AttributeValue {
        AttributeValue::Text(String::from_utf8_lossy(key).into_owned())
    }
}

impl From<i64> for AttributeValue {
    fn from(number: i64) -> AttributeValue {
        AttributeValue::Number(number)
    }
}

impl From<bool> for AttributeValue {
    fn from(flag: bool) -> AttributeValue {
        AttributeValue::Flag(flag)
    }
}

/// A request with a span of its own.
pub(crate) trait Described {
    /// The name of the span, and its attributes.
    fn described(&self) -> (&'static str, SpanAttributes);
}

fn range(request: &RangeRequest) -> SpanAttributes {
    vec![
        ("range_begin", request.key[..].into()),
        ("range_end", request.range_end[..].into()),
        ("rev", request.revision.into()),
        ("limit", request.limit.into()),
        ("count_only", request.count_only.into()),
    ]
}

impl Described for RangeRequest {
    fn described(&self) -> (&'static str, SpanAttributes) {
        let mut attributes = range(self);
        attributes.push(("keys_only", self.keys_only.into()));
        ("range", attributes)
    }
}

/// The request of `RangeStream`.
pub(crate) struct StreamedRange<'a>(pub(crate) &'a RangeRequest);

impl Described for StreamedRange<'_> {
    fn described(&self) -> (&'static str, SpanAttributes) {
        ("range_streaming", range(self.0))
    }
}

impl Described for PutRequest {
    fn described(&self) -> (&'static str, SpanAttributes) {
        ("put", vec![("key", self.key[..].into())])
    }
}

impl Described for DeleteRangeRequest {
    fn described(&self) -> (&'static str, SpanAttributes) {
        let (begin, end) = (self.key[..].into(), self.range_end[..].into());
        ("delete_range", vec![("range_begin", begin), ("range_end", end)])
    }
}

impl Described for TxnRequest {
    fn described(&self) -> (&'static str, SpanAttributes) {
        let count = |len: usize| AttributeValue::Number(i64::try_from(len).unwrap_or(i64::MAX));
        let compared = self.compare.iter().map(|compare| &compare.key[..]);
        let is_read_only = state::txn::is_read_only(self);
        let attributes = vec![
            ("compare_first_key", first(compared).into()),
            ("success_first_key", first(self.success.iter().map(key)).into()),
            ("success_first_type", first_type(&self.success).into()),
            ("success_first_lease", first_lease(&self.success).into()),
            ("compare_len", count(self.compare.len())),
            ("success_len", count(self.success.len())),
            ("failure_len", count(self.failure.len())),
            ("read_only", is_read_only.into()),
        ];
        ("txn", attributes)
    }
}

/// The first key that is not empty.
fn first<'a>(mut keys: impl Iterator<Item = &'a [u8]>) -> &'a [u8] {
    keys.find(|key| !key.is_empty()).unwrap_or_default()
}

fn key(op: &RequestOp) -> &[u8] {
    match &op.request {
        Some(Request::RequestRange(range)) => &range.key,
        Some(Request::RequestPut(put)) => &put.key,
        Some(Request::RequestDeleteRange(delete)) => &delete.key,
        Some(Request::RequestTxn(_)) | None => b"",
    }
}

fn first_type(ops: &[RequestOp]) -> &'static str {
    match ops.iter().find_map(|op| op.request.as_ref()) {
        Some(Request::RequestRange(_)) => "range",
        Some(Request::RequestPut(_)) => "put",
        Some(Request::RequestDeleteRange(_)) => "delete_range",
        Some(Request::RequestTxn(_)) => "txn",
        None => "",
    }
}

/// The lease of the first put; -1 if there is none.
fn first_lease(ops: &[RequestOp]) -> i64 {
    let put = ops.iter().find_map(|op| match &op.request {
        Some(Request::RequestPut(put)) => Some(put),
        Some(
            Request::RequestRange(_) | Request::RequestDeleteRange(_) | Request::RequestTxn(_),
        )
        | None => None,
    });
    put.map_or(-1, |put| put.lease)
}

impl Described for CompactionRequest {
    fn described(&self) -> (&'static str, SpanAttributes) {
        let attributes = vec![("is_physical", self.physical.into()), ("rev", self.revision.into())];
        ("compact", attributes)
    }
}

impl Described for LeaseGrantRequest {
    fn described(&self) -> (&'static str, SpanAttributes) {
        ("lease_grant", vec![("id", self.id.into()), ("ttl", self.ttl.into())])
    }
}

impl Described for LeaseRevokeRequest {
    fn described(&self) -> (&'static str, SpanAttributes) {
        ("lease_revoke", vec![("id", self.id.into())])
    }
}

impl Described for LeaseKeepAliveRequest {
    fn described(&self) -> (&'static str, SpanAttributes) {
        ("lease_renew", vec![("id", self.id.into())])
    }
}

impl Described for WatchCreateRequest {
    fn described(&self) -> (&'static str, SpanAttributes) {
        let attributes = vec![
            ("key", self.key[..].into()),
            ("range_end", self.range_end[..].into()),
            ("start_rev", self.start_revision.into()),
            ("progress_notify", self.progress_notify.into()),
            ("prev_kv", self.prev_kv.into()),
            ("fragment", self.fragment.into()),
        ];
        ("watch", attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::etcdserverpb::Compare;

    #[test]
    fn a_transaction_is_described_by_its_first_keys_and_its_lengths() {
        let op = |request| RequestOp { request: Some(request) };
        let put = PutRequest { key: "p".into(), lease: 7, ..PutRequest::default() };
        let inner = op(Request::RequestTxn(TxnRequest::default()));
        let txn = TxnRequest {
            compare: vec![Compare::default(), Compare { key: "c".into(), ..Compare::default() }],
            success: vec![inner, op(Request::RequestPut(put))],
            failure: Vec::new(),
        };
        let (name, attributes) = txn.described();
        let expected: SpanAttributes = vec![
            ("compare_first_key", "c".into()),
            ("success_first_key", "p".into()),
            ("success_first_type", "txn".into()),
            ("success_first_lease", 7.into()),
            ("compare_len", 2.into()),
            ("success_len", 2.into()),
            ("failure_len", 0.into()),
            ("read_only", false.into()),
        ];
        assert_eq!((name, attributes), ("txn", expected));
        let (_, empty) = TxnRequest::default().described();
        assert_eq!(empty[3], ("success_first_lease", AttributeValue::Number(-1)));
    }
}

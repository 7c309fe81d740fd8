//! Groups the events of the source into transactions for the destination.

use super::options::{MirrorOptions, put};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::request_op::Request;
use proto::mvccpb::Event;
use proto::mvccpb::event::EventType;

/// One transaction for each revision, or several for a revision with more events than a transaction
/// may have operations. The events are in the order of their revisions.
pub(super) fn batches(events: Vec<Event>, options: &MirrorOptions) -> Vec<Vec<pb::RequestOp>> {
    let mut batches: Vec<Vec<pb::RequestOp>> = Vec::new();
    let mut revision = 0;
    for event in events {
        let kind = event.r#type();
        let Some(kv) = event.kv else { continue };
        let request = match kind {
            EventType::Put => Request::RequestPut(put(&kv, options)),
            EventType::Delete => Request::RequestDeleteRange(pb::DeleteRangeRequest {
                key: options.renamed(&kv.key).into(),
                ..pb::DeleteRangeRequest::default()
            }),
        };
        let operation = pb::RequestOp { request: Some(request) };
        match batches.last_mut() {
            Some(batch) if kv.mod_revision == revision && batch.len() < options.txn_ops_max => {
                batch.push(operation);
            }
            _ => batches.push(vec![operation]),
        }
        revision = kv.mod_revision;
    }
    batches
}

//! A watch request in canonical form.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3rpc/watch.go `recvLoop`.

use crate::{Event, EventKind, KeyRange};
use auth::{Access, Denied, Guarded};
use bytes::Bytes;
use proto::etcdserverpb::WatchCreateRequest;
use proto::etcdserverpb::watch_create_request::FilterType;

/// A request to create a watcher. Permission is checked for `keys`: the watcher reads exactly
/// these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateRequest {
    /// The keys. An empty key is replaced by a zero byte, the smallest key.
    pub keys: KeyRange,
    /// The first revision to send; 0 for future events only. A negative one is refused as
    /// compacted.
    pub start_revision: i64,
    /// The id chosen by the client; 0 to assign one.
    pub watch_id: i64,
    /// Whether to send progress when no events were sent for a while.
    pub progress_notify: bool,
    /// Whether a large response may be split into several.
    pub fragment: bool,
    /// Which events and fields are wanted.
    pub(crate) interest: Interest,
}

/// Which events and fields a watcher wants. Watchers with the same keys and the same interest
/// receive the same bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Interest {
    pub(crate) no_put: bool,
    pub(crate) no_delete: bool,
    pub(crate) prev_kv: bool,
}

impl Interest {
    pub(crate) fn wants(self, event: &Event) -> bool {
        match event.kind {
            EventKind::Put => !self.no_put,
            EventKind::Delete => !self.no_delete,
        }
    }
}

impl CreateRequest {
    /// Makes the canonical form of a request. Unknown filters are ignored, as in etcd.
    #[must_use]
    pub fn new(request: WatchCreateRequest) -> CreateRequest {
        let mut interest = Interest { prev_kv: request.prev_kv, ..Interest::default() };
        for filter in &request.filters {
            match FilterType::try_from(*filter) {
                Ok(FilterType::Noput) => interest.no_put = true,
                Ok(FilterType::Nodelete) => interest.no_delete = true,
                Err(_) => {}
            }
        }
        let key = if request.key.is_empty() { Bytes::from_static(&[0]) } else { request.key };
        CreateRequest {
            keys: KeyRange::of_request(key, request.range_end),
            start_revision: request.start_revision,
            watch_id: request.watch_id,
            progress_notify: request.progress_notify,
            fragment: request.fragment,
            interest,
        }
    }

    /// Whether the range contains no key.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.keys {
            KeyRange::One(_) | KeyRange::Span { end: None, .. } => false,
            KeyRange::Span { from, end: Some(end) } => from >= end,
        }
    }
}

impl Guarded for CreateRequest {
    fn each_access(
        &self,
        check: &mut dyn FnMut(Access<'_>) -> Result<(), Denied>,
    ) -> Result<(), Denied> {
        check(Access::Read(&self.keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth::{AuthStore, Caller, Rules};
    use std::sync::Arc;

    /// Lets everyone read these keys only.
    #[derive(Debug)]
    struct Only(KeyRange);

    impl Rules for Only {
        fn allow(&self, _: &str, access: Access<'_>) -> bool {
            access == Access::Read(&self.0)
        }
    }

    fn is_permitted(key: &'static str, range_end: &'static [u8], allowed: KeyRange) -> bool {
        let auth = AuthStore::with_rules(1, Arc::new(Only(allowed)));
        let caller = Caller { user: "alice".into(), auth_revision: 1 };
        let range_end = Bytes::from_static(range_end);
        let request =
            WatchCreateRequest { key: key.into(), range_end, ..WatchCreateRequest::default() };
        auth.permit(&caller, CreateRequest::new(request)).is_ok()
    }

    #[test]
    fn permission_is_asked_for_the_canonical_range() {
        let from = |from: &'static [u8]| KeyRange::Span { from: from.into(), end: None };
        assert!(is_permitted("a", b"", KeyRange::One("a".into())));
        assert!(is_permitted("a", b"\0", from(b"a")));
        assert!(is_permitted("", b"\0", from(b"\0")), "all keys");
        assert!(!is_permitted("", b"\0", from(b"a")));
        assert!(!is_permitted("b", b"", KeyRange::One("a".into())));
    }
}

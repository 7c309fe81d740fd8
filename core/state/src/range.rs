//! Turns the key-values of a range into the answer: filters by revision, sorts, cuts to the limit
//! and drops values. Workers that answer a Range and applied transactions both use [`Collector`],
//! so that they cannot differ.
//!
//! Source: etcd v3.7 server/etcdserver/txn/range.go.

use auth::KeyRange;
use bytes::Bytes;
use mvcc::RangeQuery;
use prost::Message as _;
use proto::answer::RangeAnswer;
use proto::etcdserverpb::{
    RangeRequest,
    range_request::{SortOrder, SortTarget},
};
use proto::mvccpb::KeyValue;
use std::cmp::Ordering;

/// The store's query for a request. Its limit is one more than the request's, which shows whether
/// there are more keys. There is no limit if a filter or a sort has to see all keys first.
#[must_use]
pub fn query(request: &RangeRequest) -> RangeQuery {
    let limit = u64::try_from(request.limit).unwrap_or(0);
    let all = limit == 0 || has_filters(request) || !is_default_order(request);
    RangeQuery {
        keys: KeyRange::of_request(request.key.clone(), request.range_end.clone()),
        revision: request.revision,
        limit: if all { 0 } else { limit + 1 },
        keys_only: keys_from_index(request),
        count_only: request.count_only,
    }
}

/// True if the index alone is enough for the answer: keys without values. Then leases are left out.
fn keys_from_index(request: &RangeRequest) -> bool {
    request.keys_only && request.sort_target != i32::from(SortTarget::Value)
}

/// True if the requested order is the order of the store. The order NONE counts as such for any
/// target; then the limit is applied before the sort.
#[must_use]
pub fn is_default_order(request: &RangeRequest) -> bool {
    request.sort_order == i32::from(SortOrder::None)
        || (request.sort_target == i32::from(SortTarget::Key)
            && request.sort_order == i32::from(SortOrder::Ascend))
}

/// True if the request filters by revision.
#[must_use]
pub fn has_filters(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

/// True if the answer has to be sorted.
fn sorts(request: &RangeRequest) -> bool {
    request.sort_target != i32::from(SortTarget::Key) || !is_default_order(request)
}

/// True if the answer is the store's key-values in order, without filters; the limit may cut it.
#[must_use]
pub fn is_plain(request: &RangeRequest) -> bool {
    !has_filters(request) && !sorts(request)
}

/// Collects the answer to a range request.
#[derive(Debug)]
pub struct Collector<'a> {
    request: &'a RangeRequest,
    items: Vec<Item>,
}

/// A key-value as stored, decoded only if a filter or a sort needs it.
#[derive(Debug)]
struct Item {
    encoded: Bytes,
    decoded: Option<KeyValue>,
}

impl<'a> Collector<'a> {
    /// An empty answer.
    #[must_use]
    pub fn new(request: &'a RangeRequest) -> Collector<'a> {
        Collector { request, items: Vec::new() }
    }

    /// Takes the next key-value of the store.
    ///
    /// # Errors
    /// When it has to be decoded and is not a key-value.
    pub fn push(&mut self, encoded: Bytes) -> Result<(), prost::DecodeError> {
        let drops_value = self.request.keys_only && !keys_from_index(self.request);
        if !drops_value && is_plain(self.request) {
            self.items.push(Item { encoded, decoded: None });
            return Ok(());
        }
        let decoded = KeyValue::decode(encoded.clone())?;
        if self.passes(&decoded) {
            self.items.push(Item { encoded, decoded: Some(decoded) });
        }
        Ok(())
    }

    fn passes(&self, kv: &KeyValue) -> bool {
        let within = |value: i64, min: i64, max: i64| {
            (min == 0 || value >= min) && (max == 0 || value <= max)
        };
        let request = self.request;
        within(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
            && within(kv.create_revision, request.min_create_revision, request.max_create_revision)
    }

    /// The answer. `count` is the number of keys in the range before filters and limit;
    /// `revision` goes into the header.
    #[must_use]
    pub fn finish(mut self, revision: i64, count: u64) -> RangeAnswer {
        if sorts(self.request) {
            let descending = self.request.sort_order == i32::from(SortOrder::Descend);
            let target = self.request.sort_target;
            let before = if descending { Ordering::Greater } else { Ordering::Less };
            mvcc::go_sort::sort(&mut self.items, &mut |left, right| {
                compare(left, right, target) == before
            });
        }
        let limit = usize::try_from(self.request.limit).unwrap_or(0);
        let more = limit > 0 && self.items.len() > limit;
        if more {
            self.items.truncate(limit);
        }
        let drops_value = self.request.keys_only && !keys_from_index(self.request);
        let kvs = self.items.into_iter().map(|item| match item.decoded {
            Some(mut kv) if drops_value => {
                kv.value = Bytes::new();
                kv.encode_to_vec().into()
            }
            Some(_) | None => item.encoded,
        });
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        RangeAnswer { revision, kvs: kvs.collect(), more, count }
    }
}

fn compare(left: &Item, right: &Item, target: i32) -> Ordering {
    let (Some(left), Some(right)) = (&left.decoded, &right.decoded) else {
        return Ordering::Equal;
    };
    match SortTarget::try_from(target) {
        Ok(SortTarget::Version) => left.version.cmp(&right.version),
        Ok(SortTarget::Create) => left.create_revision.cmp(&right.create_revision),
        Ok(SortTarget::Mod) => left.mod_revision.cmp(&right.mod_revision),
        Ok(SortTarget::Value) => left.value.cmp(&right.value),
        Ok(SortTarget::Key) | Err(_) => left.key.cmp(&right.key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(key: &'static str, mod_revision: i64, value: &'static str) -> Bytes {
        let kv = KeyValue {
            key: key.into(),
            value: value.into(),
            mod_revision,
            create_revision: 1,
            version: 1,
            lease: 5,
        };
        kv.encode_to_vec().into()
    }

    fn collect(request: &RangeRequest) -> RangeAnswer {
        let mut collector = Collector::new(request);
        for kv in [stored("a", 4, "z"), stored("b", 2, "y"), stored("c", 3, "x")] {
            collector.push(kv).unwrap();
        }
        collector.finish(9, 3)
    }

    fn keys(answer: &RangeAnswer) -> String {
        let key = |kv: &Bytes| KeyValue::decode(kv.clone()).unwrap().key;
        answer.kvs.iter().flat_map(|kv| key(kv).to_vec()).map(char::from).collect()
    }

    #[test]
    fn a_plain_range_answers_the_stored_bytes() {
        let answer = collect(&RangeRequest::default());
        assert_eq!(answer.kvs[0], stored("a", 4, "z"));
        assert_eq!((keys(&answer).as_str(), answer.more, answer.count), ("abc", false, 3));
    }

    #[test]
    fn sorting_comes_before_the_limit_unless_no_order_is_given() {
        let by_mod = RangeRequest {
            sort_target: SortTarget::Mod.into(),
            sort_order: SortOrder::Descend.into(),
            limit: 2,
            ..RangeRequest::default()
        };
        assert_eq!(query(&by_mod).limit, 0);
        let answer = collect(&by_mod);
        assert_eq!((keys(&answer).as_str(), answer.more, answer.count), ("ac", true, 3));
        let no_order = RangeRequest { sort_order: SortOrder::None.into(), ..by_mod };
        assert_eq!(query(&no_order).limit, 3);
        assert_eq!(keys(&collect(&no_order)), "bc");
    }

    #[test]
    fn filters_do_not_change_the_count() {
        let request = RangeRequest {
            min_mod_revision: 3,
            max_mod_revision: 3,
            limit: 1,
            ..RangeRequest::default()
        };
        assert_eq!(query(&request).limit, 0);
        let answer = collect(&request);
        assert_eq!((keys(&answer).as_str(), answer.more, answer.count), ("c", false, 3));
    }

    #[test]
    fn values_are_dropped_after_sorting_by_them() {
        let request = RangeRequest {
            keys_only: true,
            sort_target: SortTarget::Value.into(),
            ..RangeRequest::default()
        };
        assert!(!query(&request).keys_only, "the values are needed");
        let first = KeyValue::decode(collect(&request).kvs[0].clone()).unwrap();
        assert_eq!((&first.key[..], first.value.len(), first.lease), (&b"c"[..], 0, 5));
    }
}

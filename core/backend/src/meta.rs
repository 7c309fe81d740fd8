//! The backend's keys of the bucket `meta`: the applied entry and the raft configuration. `mvcc`
//! has the keys of compaction.
//!
//! Source: etcd v3.7 server/storage/schema/{cindex,confstate,migration}.go.

use crate::error::Error;
use bytes::Bytes;
use proto::{ConfState, NodeId};

/// u64 big-endian: the index of the last applied entry; 0 is never written.
pub const CONSISTENT_INDEX: &[u8] = b"consistent_index";
/// u64 big-endian: the term of that entry; not written when 0.
pub const TERM: &[u8] = b"term";
/// The raft configuration as JSON; absent until the first change is applied.
pub const CONF_STATE: &[u8] = b"confState";
/// A version such as `3.6.0`; absent before 3.6.
pub const STORAGE_VERSION: &[u8] = b"storageVersion";

/// Decodes the value of [`CONF_STATE`].
pub(crate) fn parse_conf_state(json: &[u8]) -> Result<ConfState, Error> {
    const BAD: Error = Error::Corrupt { what: "meta/confState is not a configuration" };
    let value: serde_json::Value = serde_json::from_slice(json).map_err(|_| BAD)?;
    let fields = value.as_object().ok_or(BAD)?;
    let ids = |name: &str| -> Result<Vec<NodeId>, Error> {
        match fields.get(name) {
            None | Some(serde_json::Value::Null) => Ok(Vec::new()),
            Some(list) => list
                .as_array()
                .ok_or(BAD)?
                .iter()
                .map(|id| id.as_u64().map(NodeId).ok_or(BAD))
                .collect(),
        }
    };
    Ok(ConfState {
        voters: ids("voters")?,
        learners: ids("learners")?,
        voters_outgoing: ids("voters_outgoing")?,
        learners_next: ids("learners_next")?,
        auto_leave: fields.get("auto_leave").and_then(serde_json::Value::as_bool) == Some(true),
    })
}

/// The value of [`CONF_STATE`] as Go's etcd writes it: without empty lists.
pub(crate) fn conf_state_json(conf_state: &ConfState) -> Bytes {
    let lists = [
        ("voters", &conf_state.voters),
        ("learners", &conf_state.learners),
        ("voters_outgoing", &conf_state.voters_outgoing),
        ("learners_next", &conf_state.learners_next),
    ];
    let mut json = String::from("{");
    for (name, ids) in lists.into_iter().filter(|(_, ids)| !ids.is_empty()) {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        json += &format!("\"{name}\":[{}],", ids.join(","));
    }
    json += &format!("\"auto_leave\":{}}}", conf_state.auto_leave);
    json.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_written_as_go_writes_it() {
        let one =
            ConfState { voters: vec![NodeId(10_276_657_743_932_975_437)], ..Default::default() };
        let json = conf_state_json(&one);
        assert_eq!(json, "{\"voters\":[10276657743932975437],\"auto_leave\":false}");
        assert_eq!(parse_conf_state(&json).unwrap(), one);
    }

    #[test]
    fn every_list_is_read_back_and_unknown_names_are_ignored() {
        let all = ConfState {
            voters: vec![NodeId(1), NodeId(2)],
            learners: vec![NodeId(3)],
            voters_outgoing: vec![NodeId(4)],
            learners_next: vec![NodeId(u64::MAX)],
            auto_leave: true,
        };
        assert_eq!(parse_conf_state(&conf_state_json(&all)).unwrap(), all);
        let odd = b"{\"voters\":null,\"new\":{}}";
        assert_eq!(parse_conf_state(odd).unwrap(), ConfState::default());
        for bad in [&b"[]"[..], b"{\"voters\":[-1]}", b"{", b"{\"learners\":7}"] {
            assert!(parse_conf_state(bad).is_err());
        }
    }
}

//! What a watcher is told.

use crate::error::Error;
use crate::kv::KeyValue;
use bytes::Bytes;
use proto::Revision;

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was put.
    Put,
    /// It was deleted.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The key.
    pub key: Bytes,
    /// An encoded `mvccpb.KeyValue`: what was stored; for a deletion the key and `mod_revision`.
    pub kv: Bytes,
    /// The revision of the change.
    pub mod_revision: i64,
    /// The revision of the first put since the last deletion; equal to `mod_revision` if this is
    /// it. 0 for a deletion.
    pub create_revision: i64,
    /// The number of puts since the last deletion; 0 for a deletion.
    pub version: i64,
}

impl Event {
    /// Whether it is the put that made the key.
    #[must_use]
    pub fn is_create(&self) -> bool {
        self.kind == EventKind::Put && self.create_revision == self.mod_revision
    }

    /// The event of a stored version.
    pub(crate) fn of_stored(key: &[u8], value: Bytes) -> Result<(Revision, Event), Error> {
        let (revision, tombstone) = Revision::from_bytes(key)
            .map_err(|_| Error::corrupt("a key of the bucket `key` is not a revision", key))?;
        let kv = KeyValue::decode(&value)
            .map_err(|_| Error::corrupt("a stored value is not a key-value", key))?;
        let event = if tombstone {
            let told = KeyValue { key: kv.key, mod_revision: revision.main, ..KeyValue::default() };
            Event {
                kind: EventKind::Delete,
                key: value.slice_ref(kv.key),
                kv: told.to_bytes(),
                mod_revision: revision.main,
                create_revision: 0,
                version: 0,
            }
        } else {
            Event {
                kind: EventKind::Put,
                key: value.slice_ref(kv.key),
                mod_revision: revision.main,
                create_revision: kv.create_revision,
                version: kv.version,
                kv: value,
            }
        };
        Ok((revision, event))
    }
}

/// The changes of one transaction, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventBatch {
    /// The main revision that they all have.
    pub revision: i64,
    /// The changes.
    pub events: Vec<Event>,
}

//! The events that watchers receive.

use crate::error::Error;
use crate::kv::KeyValue;
use bytes::Bytes;
use proto::Revision;

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The key was put.
    Put,
    /// The key was deleted.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The kind of the change.
    pub kind: EventKind,
    /// The key.
    pub key: Bytes,
    /// An encoded `mvccpb.KeyValue`: the stored one, or for a deletion one with only the key and
    /// `mod_revision`.
    pub kv: Bytes,
    /// The revision of the change.
    pub mod_revision: i64,
    /// The revision of the first put since the last deletion, which equals `mod_revision` for that
    /// put itself. 0 for a deletion.
    pub create_revision: i64,
    /// The number of puts since the last deletion; 0 for a deletion.
    pub version: i64,
}

impl Event {
    /// Whether this put created the key.
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
            let notified =
                KeyValue { key: kv.key, mod_revision: revision.main, ..KeyValue::default() };
            Event {
                kind: EventKind::Delete,
                key: value.slice_ref(kv.key),
                kv: notified.to_bytes(),
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
    /// The main revision of all changes.
    pub revision: i64,
    /// The changes.
    pub events: Vec<Event>,
}

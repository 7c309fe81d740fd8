//! Checks the guarantees for watches: events come in order of revision, each once, none missing,
//! and all events of a revision together. A progress notification means that all events up to its
//! revision were sent. A watch that ends can be resumed elsewhere at the next revision.
//!
//! Source: etcd's documentation, learning/api_guarantees.md, "Watch APIs".

use super::oracle::{KnownEvent, Oracle};
use bytes::Bytes;
use proto::etcdserverpb::WatchResponse;
use proto::mvccpb::event::EventType;
use proto::mvccpb::{Event, KeyValue};

/// How a watch continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goes {
    On,
    /// It was cancelled: its revisions up to this one are compacted.
    Compacted(i64),
}

/// A client's watch over all its streams.
#[derive(Clone, Debug)]
pub(crate) struct CheckedWatch {
    from: Bytes,
    end: Bytes,
    wants_previous: bool,
    /// All events below this revision were received; 0 until the watch is first created.
    pub(crate) next: i64,
    pub(crate) events: u64,
    pub(crate) progress: u64,
}

impl CheckedWatch {
    pub(crate) fn new(from: Bytes, end: Bytes, wants_previous: bool) -> CheckedWatch {
        CheckedWatch { from, end, wants_previous, next: 0, events: 0, progress: 0 }
    }

    fn wants(&self, event: &KnownEvent) -> bool {
        event.key >= self.from && event.key < self.end
    }

    /// Checks a response.
    ///
    /// # Errors
    /// When it violates a guarantee.
    pub(crate) fn take(
        &mut self,
        response: &WatchResponse,
        oracle: &Oracle,
    ) -> Result<Goes, String> {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if revision > oracle.revision() {
            return Err(format!(
                "a watch is told of revision {revision}, and {} is the last one",
                oracle.revision()
            ));
        }
        if response.canceled {
            let compacted = response.compact_revision;
            if compacted == 0 || compacted > oracle.compacted() || self.next > compacted {
                return Err(format!("a watch at {} is cancelled: {response:?}", self.next));
            }
            return Ok(Goes::Compacted(compacted));
        }
        if response.created {
            if self.next == 0 {
                self.next = revision + 1;
            }
            return Ok(Goes::On);
        }
        if response.events.is_empty() {
            self.check_progress(revision, oracle)?;
        } else {
            self.check_events(&response.events, oracle)?;
        }
        Ok(Goes::On)
    }

    /// Checks a progress notification: all events up to the revision must have been received.
    fn check_progress(&mut self, revision: i64, oracle: &Oracle) -> Result<(), String> {
        let missing = oracle.events_from(self.next).iter().find(|event| self.wants(event));
        if let Some(missing) = missing.filter(|missing| missing.revision <= revision) {
            return Err(format!(
                "progress up to {revision} is told before the event of revision {}",
                missing.revision
            ));
        }
        self.next = self.next.max(revision + 1);
        self.progress += 1;
        Ok(())
    }

    fn check_events(&mut self, events: &[Event], oracle: &Oracle) -> Result<(), String> {
        let mut expected = oracle.events_from(self.next).iter().filter(|it| self.wants(it));
        let mut last = 0;
        for event in events {
            let kv = event.kv.as_ref().ok_or("an event without a key-value")?;
            let known = expected.next();
            let Some(known) = known.filter(|known| matches(known, event, kv)) else {
                return Err(format!(
                    "a watch at {} gets {event:?}, and the next event is {known:?}",
                    self.next
                ));
            };
            last = known.revision;
            if self.wants_previous {
                check_previous(event, known, oracle)?;
            }
        }
        if expected.next().is_some_and(|next| next.revision == last) {
            return Err(format!("a watch gets only a part of the events of revision {last}"));
        }
        self.next = last + 1;
        self.events += events.len() as u64;
        Ok(())
    }

    /// Whether all events up to the last revision were received.
    pub(crate) fn has_all(&self, oracle: &Oracle) -> bool {
        !oracle.events_from(self.next).iter().any(|event| self.wants(event))
    }
}

fn matches(known: &KnownEvent, event: &Event, kv: &KeyValue) -> bool {
    let is_put = event.r#type() == EventType::Put;
    let is_same = match &known.put {
        Some(put) => is_put && put == kv,
        None => !is_put && kv.key == known.key,
    };
    is_same && kv.mod_revision == known.revision
}

/// Checks the previous value of an event. It may be missing if it is compacted.
fn check_previous(event: &Event, known: &KnownEvent, oracle: &Oracle) -> Result<(), String> {
    let before = oracle.key_at(&known.key, known.revision - 1);
    let may_be_gone = event.prev_kv.is_none() && known.revision - 1 < oracle.compacted();
    if event.prev_kv.as_ref() == before || may_be_gone {
        return Ok(());
    }
    Err(format!("the value before {known:?} is {:?}, and was {before:?}", event.prev_kv))
}

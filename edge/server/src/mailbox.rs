//! The mailbox of one worker: answers, events and connections from other threads. The worker takes
//! everything at once. There is one slot, into which new mail is merged:
//!
//! - answers, replies, files, reads and indexes: at most one for each request that the worker waits
//!   for, which its door bounds;
//! - events: up to [`EVENT_BYTES_MAX`] and [`EVENT_BATCHES_MAX`]; beyond that they are dropped, and
//!   the worker's watchers read history instead;
//! - connections: up to [`CONNECTIONS_MAX`]; beyond that a new one is closed.

use crate::connection::ConnectionGuard;
use crate::error::Error;
use mvcc::EventBatch;
use proto::answer::Answer;
use state::Reply;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The maximum bytes of events that wait for a worker.
const EVENT_BYTES_MAX: usize = 8 << 20;
/// The maximum number of event batches that wait for a worker.
const EVENT_BATCHES_MAX: usize = 65_536;
/// The maximum number of connections that wait for a worker.
const CONNECTIONS_MAX: usize = 1_024;

/// Events for a worker.
#[derive(Debug, Default)]
pub(crate) struct EventMail {
    batches: Vec<Arc<EventBatch>>,
    bytes: usize,
    /// Some were dropped, so all events before the current view count as missed.
    lost: bool,
}

impl EventMail {
    /// The batches in order; `None` if some were dropped.
    pub(crate) fn into_batches(self) -> Option<Vec<Arc<EventBatch>>> {
        (!self.lost).then_some(self.batches)
    }

    /// True if there are no batches and none were dropped.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty() && !self.lost
    }

    /// Adds batches, which have this many bytes together. If they become too many, drops all.
    pub(crate) fn extend(&mut self, batches: &[Arc<EventBatch>], bytes: usize) {
        self.bytes += bytes;
        if self.lost
            || self.bytes > EVENT_BYTES_MAX && !self.batches.is_empty()
            || self.batches.len() + batches.len() > EVENT_BATCHES_MAX
        {
            self.lose();
        } else {
            self.batches.extend_from_slice(batches);
        }
    }

    /// Drops all events, and records that some are missing.
    pub(crate) fn lose(&mut self) {
        *self = EventMail { batches: Vec::new(), bytes: 0, lost: true };
    }

    fn append(&mut self, other: EventMail) {
        if other.lost {
            *self = other;
        } else {
            self.extend(&other.batches, other.bytes);
        }
    }
}

/// Mail for one worker.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    pub(crate) answers: Vec<(u64, Result<Answer, Error>)>,
    pub(crate) replies: Vec<(u64, Reply)>,
    pub(crate) files: Vec<(u64, bolt::View)>,
    /// Reads that were confirmed or refused.
    pub(crate) reads: Vec<(u64, Result<(), Error>)>,
    pub(crate) raft: Vec<(u64, Box<raft::Status>)>,
    pub(crate) events: EventMail,
}

impl Mail {
    fn is_empty(&self) -> bool {
        self.answers.is_empty()
            && self.replies.is_empty()
            && self.files.is_empty()
            && self.reads.is_empty()
            && self.raft.is_empty()
            && self.events.is_empty()
    }

    fn append(&mut self, mut other: Mail) {
        if self.is_empty() {
            *self = other;
            return;
        }
        self.answers.append(&mut other.answers);
        self.replies.append(&mut other.replies);
        self.files.append(&mut other.files);
        self.reads.append(&mut other.reads);
        self.raft.append(&mut other.raft);
        self.events.append(other.events);
    }
}

/// The content of a mailbox.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) mail: Mail,
    pub(crate) connections: Vec<ConnectionGuard>,
    /// True if the worker must end.
    pub(crate) stopped: bool,
}

/// The mailbox of one worker.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    taken: Mutex<Taken>,
    ready: Notify,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds mail, and leaves `mail` empty.
    pub(crate) fn deliver(&self, mail: &mut Mail) {
        if !mail.is_empty() {
            self.lock().mail.append(std::mem::take(mail));
            self.ready.notify_one();
        }
    }

    /// Hands over a connection. If too many wait or the worker ends, closes it and returns false.
    pub(crate) fn connect(&self, connection: ConnectionGuard) -> bool {
        let mut taken = self.lock();
        if taken.stopped || taken.connections.len() >= CONNECTIONS_MAX {
            return false;
        }
        taken.connections.push(connection);
        drop(taken);
        self.ready.notify_one();
        true
    }

    /// Tells the worker to end.
    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.ready.notify_one();
    }

    /// Waits until there is mail, and takes all of it.
    pub(crate) async fn take(&self) -> Taken {
        self.ready.notified().await;
        let mut slot = self.lock();
        let stopped = slot.stopped;
        let taken = std::mem::take(&mut *slot);
        slot.stopped = stopped;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use mvcc::{Event, EventKind};

    fn batch(revision: i64, bytes: usize) -> Arc<EventBatch> {
        let event = Event {
            kind: EventKind::Put,
            key: Bytes::from_static(b"key"),
            kv: Bytes::from(vec![0; bytes]),
            mod_revision: revision,
            create_revision: revision,
            version: 1,
        };
        Arc::new(EventBatch { revision, events: vec![event] })
    }

    fn mail(batches: &[Arc<EventBatch>]) -> Mail {
        let mut mail = Mail::default();
        let events = batches.iter().flat_map(|batch| &batch.events);
        mail.events.extend(batches, events.map(|event| event.kv.len()).sum());
        mail
    }

    #[test]
    fn events_over_the_bound_are_dropped_until_the_worker_takes_its_mail() {
        let mailbox = Mailbox::default();
        let half = EVENT_BYTES_MAX / 2;
        mailbox.deliver(&mut mail(&[batch(2, half)]));
        mailbox.deliver(&mut mail(&[batch(3, half)]));
        mailbox.deliver(&mut mail(&[batch(4, 1)]));
        let events = std::mem::take(&mut mailbox.lock().mail).events;
        assert_eq!(events.into_batches(), None);
        mailbox.deliver(&mut mail(&[batch(5, half)]));
        let events = std::mem::take(&mut mailbox.lock().mail).events;
        assert_eq!(events.into_batches(), Some(vec![batch(5, half)]));
    }

    #[test]
    fn a_batch_over_the_bound_is_delivered_by_itself() {
        let mailbox = Mailbox::default();
        mailbox.deliver(&mut mail(&[batch(2, 2 * EVENT_BYTES_MAX)]));
        let events = std::mem::take(&mut mailbox.lock().mail).events;
        assert_eq!(events.into_batches().map(|batches| batches.len()), Some(1));
    }

    #[test]
    fn mail_that_was_not_taken_is_merged_in_order() {
        let mailbox = Mailbox::default();
        for id in 1..=3 {
            let answers = vec![(id, Err(Error::Stopped))];
            mailbox.deliver(&mut Mail { answers, ..mail(&[batch(1 + id.cast_signed(), 1)]) });
        }
        let mail = std::mem::take(&mut mailbox.lock().mail);
        assert_eq!(mail.answers.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2, 3]);
        let revisions = mail.events.into_batches().unwrap_or_default();
        assert_eq!(revisions.iter().map(|batch| batch.revision).collect::<Vec<_>>(), [2, 3, 4]);
    }
}

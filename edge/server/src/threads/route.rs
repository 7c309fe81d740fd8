//! Delivers the messages of the machines.

use crate::error::Error;
use crate::mailbox::Mail;
use crate::shared::Shared;
use executor::{ClientMessage, Envelope, Moment};
use mvcc::EventBatch;
use proto::answer::Answer;
use state::Reply;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Delivers the messages of one machine: to queues at once, to workers once per round.
#[derive(Debug)]
pub(crate) struct Router {
    shared: Arc<Shared>,
    /// The mail of each worker since the last [`Router::send_mail`].
    mail: Vec<Mail>,
}

impl Router {
    pub(crate) fn new(shared: Arc<Shared>) -> Router {
        let mail = shared.workers.iter().map(|_| Mail::default()).collect();
        Router { shared, mail }
    }

    /// Delivers messages in order.
    pub(crate) fn route(&mut self, messages: &mut Vec<Envelope>) {
        for message in messages.drain(..) {
            let queues = &self.shared.queues;
            match message {
                Envelope::Consensus(input) => queues.consensus.push(input),
                Envelope::Apply(input) => queues.apply.push(input),
                Envelope::Log(input) => queues.log.push(input),
                Envelope::Backend(input) => queues.backend.push(input),
                Envelope::Client(message) => self.send_to_clients(message),
                Envelope::Peers(messages) => self.shared.peers.send(messages),
                Envelope::PeerSnapshot(message, file) => {
                    self.shared.peers.send_snapshot(*message, file);
                }
            }
        }
    }

    fn send_to_clients(&mut self, message: ClientMessage) {
        match message {
            ClientMessage::Tokens(changes) => {
                self.shared.tokens.change(changes, std::time::Instant::now());
            }
            ClientMessage::Publish(moment) => self.publish(moment),
            ClientMessage::Events(events) => self.send_events(&events),
            ClientMessage::EventsLost => {
                self.mail.iter_mut().for_each(|mail| mail.events.lose());
            }
            ClientMessage::Answer(id, result) => {
                if let Ok(answer) = &result {
                    self.count_lease(answer);
                }
                if let Some(mail) = self.mail_of(id) {
                    mail.answers.push((id, result.map_err(Error::from)));
                }
            }
            ClientMessage::Reply(id, reply) => {
                if let Reply::KeptAlive { .. } = reply {
                    self.shared.metrics.store.lease.renewed.inc();
                }
                if let Some(mail) = self.mail_of(id) {
                    mail.replies.push((id, reply));
                }
            }
            ClientMessage::File(id, file) => {
                if let Some(mail) = self.mail_of(id) {
                    mail.files.push((id, file));
                }
            }
            ClientMessage::ReadReady(id) => {
                if let Some(mail) = self.mail_of(id) {
                    mail.reads.push((id, Ok(())));
                }
            }
            ClientMessage::Status(id, status) => {
                if let Some(mail) = self.mail_of(id) {
                    mail.raft.push((id, status));
                }
            }
            ClientMessage::ReadRefused(id) => {
                if let Some(mail) = self.mail_of(id) {
                    mail.reads.push((id, Err(Error::TooManyRequests)));
                }
            }
        }
    }

    fn mail_of(&mut self, id: u64) -> Option<&mut Mail> {
        let worker = self.shared.ids.lane_of(id)?;
        self.mail.get_mut(worker)
    }

    fn publish(&self, moment: Arc<Moment>) {
        let before = self.shared.moment();
        let (old, new) = (before.leadership, moment.leadership);
        if !Arc::ptr_eq(&before.published.cluster, &moment.published.cluster) {
            self.shared.peers.set_members(&moment.published.cluster);
        }
        drop(before);
        let revision = i64::try_from(moment.published.auth.revision()).unwrap_or(i64::MAX);
        self.shared.metrics.identity.auth_revision.set(revision);
        self.shared.publish(moment);
        if old.leader != new.leader {
            if new.leader == self.shared.identity().member {
                self.shared.set_elected();
            }
            self.shared.metrics.raft.consensus.leader_changes.inc();
            tracing::info!(
                local_member_id = format_args!("{:x}", self.shared.identity().member),
                leader = format_args!("{:x}", new.leader),
                term = new.term.0,
                "raft leader changed"
            );
        }
    }

    fn send_events(&mut self, events: &[Arc<EventBatch>]) {
        let all = events.iter().flat_map(|batch| &batch.events);
        let bytes = all.map(|event| event.key.len() + event.kv.len()).sum();
        for (worker, mail) in self.shared.workers.iter().zip(&mut self.mail) {
            if worker.gauges.wants_events.load(Ordering::SeqCst) {
                mail.events.extend(events, bytes);
            }
        }
    }

    /// Counts grants and revocations of leases, since the answer to each applied one passes here.
    fn count_lease(&self, answer: &Answer) {
        let metrics = &self.shared.metrics.store.lease;
        if let Answer::LeaseGrant(grant) = answer {
            metrics.granted.inc();
            let ttl_s = u64::try_from(grant.ttl_s).unwrap_or(0);
            metrics.ttl.observe(Duration::from_secs(ttl_s).as_secs_f64());
        } else if let Answer::LeaseRevoke { .. } = answer {
            metrics.revoked.inc();
        }
    }

    /// Delivers each worker's mail. Called at the end of a round.
    pub(crate) fn send_mail(&mut self) {
        for (worker, mail) in self.shared.workers.iter().zip(&mut self.mail) {
            worker.mailbox.deliver(mail);
        }
    }
}

//! Joins the messages to other members that one round has made, and drops those that a later or an
//! earlier one includes. For example, if a round commits entries and appends the next ones, the append
//! tells of the commit, so that no empty append is sent for it.

use crate::message::Envelope;
use proto::NodeId;
use raft::{Body, Message};
use std::collections::BTreeMap;

/// The kinds of messages that a later one of the same kind to the same member includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// An append. A later one also has the commit index, which is all that an empty one has.
    Append,
    /// An answer to an append. It covers all entries up to its index.
    Answer,
}

fn kind(message: &Message) -> Option<Kind> {
    if let Body::Append { .. } = &message.body {
        Some(Kind::Append)
    } else if let Body::AppendAccepted { .. } | Body::AppendRejected { .. } = &message.body {
        Some(Kind::Answer)
    } else {
        None
    }
}

fn has_entries(message: &Message) -> bool {
    matches!(&message.body, Body::Append { entries, .. } if !entries.is_empty())
}

/// The last answer to an append, if the next one may be dropped because it repeats this one.
///
/// A leader sends an empty append for each commit. Its answer has the index of the answer to the
/// entries, and costs both members a message. A leader that has not received the first answer sends an
/// append again after the next heartbeat, so a heartbeat ends the dropping.
#[derive(Debug, Default)]
pub(crate) struct LastAnswer {
    sent: Option<Message>,
}

impl LastAnswer {
    /// Notes a message that arrives.
    pub(crate) fn received(&mut self, message: &Message) {
        if let Body::Heartbeat { .. } = message.body {
            self.sent = None;
        }
    }

    /// Notes messages that the log sends once a batch is durable. What is sent after the batch, is
    /// sent after them.
    pub(crate) fn will_send(&mut self, messages: &[Message]) {
        for message in messages {
            self.is_repeated(message);
        }
    }

    fn drop_repeated(&mut self, messages: &mut Vec<Message>) {
        messages.retain(|message| !self.is_repeated(message));
    }

    /// Whether this is the last answer again. Otherwise it becomes the last one, if it is an answer.
    fn is_repeated(&mut self, message: &Message) -> bool {
        if kind(message) != Some(Kind::Answer) {
            return false;
        }
        let is_repeated = self.sent.as_ref() == Some(message);
        // After a rejection, the leader waits for the answer to the append that it sends next.
        let is_accepted = matches!(message.body, Body::AppendAccepted { .. });
        self.sent = is_accepted.then(|| message.clone());
        is_repeated
    }
}

/// Joins all messages to other members into one envelope, in the place of the first. Their order
/// stays.
pub(crate) fn join_messages(out: &mut Vec<Envelope>, last_answer: &mut LastAnswer) {
    let mut joined = Vec::new();
    let mut first = None;
    for (at, envelope) in out.iter_mut().enumerate() {
        if let Envelope::Peers(messages) = envelope {
            first.get_or_insert(at);
            joined.append(messages);
        }
    }
    let Some(first) = first else { return };
    drop_included(&mut joined);
    last_answer.drop_repeated(&mut joined);
    out.retain(|envelope| !matches!(envelope, Envelope::Peers(messages) if messages.is_empty()));
    if !joined.is_empty() {
        out.insert(first, Envelope::Peers(joined));
    }
}

/// Drops empty appends and answers that a later message includes. Raft takes a dropped message as a
/// lost one.
fn drop_included(messages: &mut Vec<Message>) {
    let kinds = messages.iter().enumerate();
    let kinds = kinds.filter_map(|(at, message)| Some(((message.to, kind(message)?), at)));
    let last: BTreeMap<(NodeId, Kind), usize> = kinds.collect();
    let mut at = 0;
    messages.retain(|message| {
        let is_last = kind(message).is_none_or(|kind| last.get(&(message.to, kind)) == Some(&at));
        at += 1;
        is_last || has_entries(message)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{Entry, EntryId, Index, Term};

    fn message(to: u64, body: Body) -> Message {
        Message { from: NodeId(1), to: NodeId(to), term: Term(1), body }
    }

    fn append(to: u64, entries: usize, commit: u64) -> Message {
        // The first entry of a leader has no data.
        let entries = vec![Entry::default(); entries];
        message(to, Body::Append { prev: EntryId::default(), entries, commit: Index(commit) })
    }

    fn accepted(to: u64, index: u64) -> Message {
        message(to, Body::AppendAccepted { index: Index(index) })
    }

    fn joined(envelopes: Vec<Vec<Message>>) -> Vec<Envelope> {
        let mut out: Vec<Envelope> = envelopes.into_iter().map(Envelope::Peers).collect();
        join_messages(&mut out, &mut LastAnswer::default());
        out
    }

    /// The messages that are sent of these, which are made in one round each.
    fn sent(last_answer: &mut LastAnswer, rounds: &[Message]) -> Vec<Message> {
        let mut sent = Vec::new();
        for message in rounds {
            let mut out = vec![Envelope::Peers(vec![message.clone()])];
            join_messages(&mut out, last_answer);
            for envelope in out {
                let Envelope::Peers(messages) = envelope else { panic!("{envelope:?}") };
                sent.extend(messages);
            }
        }
        sent
    }

    #[test]
    fn an_answer_that_repeats_the_last_one_is_dropped_until_a_heartbeat() {
        let mut last = LastAnswer::default();
        let rounds = [accepted(2, 5), accepted(2, 5), accepted(2, 6), accepted(3, 6)];
        let expected = [accepted(2, 5), accepted(2, 6), accepted(3, 6)];
        assert_eq!(sent(&mut last, &rounds), expected);
        assert_eq!(sent(&mut last, &[accepted(3, 6)]), []);
        last.received(&append(1, 0, 6));
        assert_eq!(sent(&mut last, &[accepted(3, 6)]), [], "an append ends nothing");
        last.received(&message(1, Body::Heartbeat { commit: Index(6), context: "".into() }));
        assert_eq!(sent(&mut last, &[accepted(3, 6)]), [accepted(3, 6)]);
    }

    #[test]
    fn the_answer_after_a_rejection_is_sent_although_an_earlier_one_is_equal() {
        let reject = || {
            let (index, hint) = (Index(9), EntryId { term: Term(1), index: Index(5) });
            message(2, Body::AppendRejected { index, hint })
        };
        let rounds = [accepted(2, 5), reject(), reject(), accepted(2, 5)];
        assert_eq!(sent(&mut LastAnswer::default(), &rounds), rounds);
    }

    #[test]
    fn messages_of_a_round_are_sent_at_once_and_in_order() {
        let vote = || message(2, Body::VoteResponse { granted: true });
        let out = joined(vec![vec![vote()], vec![append(2, 1, 3), vote()]]);
        let [Envelope::Peers(sent)] = &out[..] else { panic!("{out:?}") };
        assert_eq!(*sent, [vote(), append(2, 1, 3), vote()]);
    }

    #[test]
    fn an_empty_append_is_dropped_if_another_append_to_the_member_follows() {
        let out = joined(vec![
            vec![append(2, 0, 3), append(3, 0, 3), append(4, 2, 3)],
            vec![append(2, 1, 3), append(3, 0, 4), append(4, 1, 3)],
        ]);
        let [Envelope::Peers(sent)] = &out[..] else { panic!("{out:?}") };
        assert_eq!(*sent, [append(4, 2, 3), append(2, 1, 3), append(3, 0, 4), append(4, 1, 3)]);
    }

    #[test]
    fn only_the_last_answer_to_appends_is_sent_to_a_member() {
        let out = joined(vec![vec![accepted(2, 5), accepted(3, 5)], vec![accepted(2, 6)]]);
        let [Envelope::Peers(sent)] = &out[..] else { panic!("{out:?}") };
        assert_eq!(*sent, [accepted(3, 5), accepted(2, 6)]);
    }

    #[test]
    fn other_envelopes_keep_their_order() {
        let envelope = |id| Envelope::Client(crate::message::ClientMessage::ReadReady(id));
        let mut out = vec![envelope(1), Envelope::Peers(vec![append(2, 0, 1)]), envelope(2)];
        out.push(Envelope::Peers(vec![append(2, 1, 1)]));
        join_messages(&mut out, &mut LastAnswer::default());
        let found: Vec<String> = out.iter().map(|envelope| format!("{envelope:?}")).collect();
        let [first, _, last] = &found[..] else { panic!("{found:?}") };
        assert!(first.contains("ReadReady(1)") && last.contains("ReadReady(2)"), "{found:?}");
    }
}

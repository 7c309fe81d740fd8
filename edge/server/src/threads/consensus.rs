//! The thread of consensus. It does no slow work, such as disk access, applying entries or
//! compaction, so its ticks are never late.

use crate::shared::Shared;
use crate::threads::route::Router;
use executor::{
    ClientMessage, Consensus, ConsensusInput, Envelope, GATHERING_TIME, RequestFailure,
};
use raft::{Body, Message};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Works until its queue is closed.
pub(crate) fn run(mut consensus: Consensus, shared: &Arc<Shared>, tick: Duration) {
    let mut router = Router::new(Arc::clone(shared));
    let (mut inputs, mut out) = (VecDeque::new(), Vec::new());
    let mut next_tick = Instant::now();
    let mut gathering = Gathering::default();
    loop {
        let now = Instant::now();
        if now >= next_tick {
            let is_late = now > next_tick + tick;
            next_tick = now + tick;
            shared.ticks.ticked();
            consensus.take(ConsensusInput::Tick, &mut out);
            end_round(&mut consensus, shared, &mut out);
            if is_late {
                shared.metrics.raft.consensus.heartbeat_failures.inc_by(heartbeats(&out));
            }
            deliver(&consensus, shared, &mut router, &mut out);
        }
        let deadline = gathering.deadline(&consensus).map_or(next_tick, |end| end.min(next_tick));
        let wake = consensus.wake_for();
        if !shared.queues.consensus.drain_woken_by(wake, &mut inputs, Some(deadline)) {
            return;
        }
        for input in inputs.drain(..) {
            consensus.take(input, &mut out);
        }
        if gathering.deadline(&consensus).is_some_and(|end| end <= Instant::now()) {
            consensus.end_gathering();
        }
        end_round(&mut consensus, shared, &mut out);
        deliver(&consensus, shared, &mut router, &mut out);
    }
}

fn end_round(consensus: &mut Consensus, shared: &Shared, out: &mut Vec<Envelope>) {
    if consensus.begins_reads() {
        shared.begin_read_round();
    }
    consensus.end_round(out);
}

/// How many heartbeats are among the messages.
fn heartbeats(out: &[Envelope]) -> u64 {
    let peers = out.iter().filter_map(|envelope| match envelope {
        Envelope::Peers(messages) => Some(messages),
        Envelope::Consensus(_)
        | Envelope::Apply(_)
        | Envelope::Log(_)
        | Envelope::Backend(_)
        | Envelope::Client(_)
        | Envelope::PeerSnapshot(..) => None,
    });
    let is_heartbeat = |message: &&Message| matches!(message.body, Body::Heartbeat { .. });
    peers.flatten().filter(is_heartbeat).count() as u64
}

/// Decides when to stop gathering proposals after a round.
#[derive(Debug, Default)]
struct Gathering {
    round: Option<u64>,
    end: Option<Instant>,
}

impl Gathering {
    fn deadline(&mut self, consensus: &Consensus) -> Option<Instant> {
        let round = consensus.overlapping_round();
        if round != self.round {
            self.round = round;
            self.end = round.map(|_| Instant::now() + GATHERING_TIME);
        }
        self.end
    }
}

fn deliver(consensus: &Consensus, shared: &Shared, router: &mut Router, out: &mut Vec<Envelope>) {
    let member = consensus.member();
    shared.set_commit(member.commit());
    shared.log_bytes.store(member.log_bytes(), Ordering::Relaxed);
    for message in out.iter() {
        if let Envelope::Client(ClientMessage::Answer(_, Err(RequestFailure::TooManyRequests))) =
            message
        {
            shared.metrics.raft.consensus.failed.inc();
        }
    }
    router.route(out);
    router.send_mail();
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use executor::ApplyInput;
    use proto::{Index, NodeId, Term};

    #[test]
    fn each_heartbeat_of_a_late_tick_is_counted_and_nothing_else() {
        let message = |body| Message { to: NodeId(2), from: NodeId(1), term: Term(1), body };
        let beat = || Body::Heartbeat { commit: Index(1), context: Bytes::new() };
        let peers = |bodies: Vec<Body>| Envelope::Peers(bodies.into_iter().map(message).collect());
        let out = [
            peers(vec![beat(), Body::TimeoutNow, beat()]),
            Envelope::Apply(ApplyInput::Tick),
            peers(vec![beat()]),
        ];
        assert_eq!(heartbeats(&out), 3);
    }
}

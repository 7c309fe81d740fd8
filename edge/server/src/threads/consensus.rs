//! The thread of consensus. It only decides, so that nothing that takes long delays its ticks:
//! neither disks nor the application of entries nor compaction.

use crate::shared::Shared;
use crate::threads::route::Router;
use executor::{ClientMessage, Consensus, ConsensusInput, Envelope, RequestFailure};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Works until its queue is closed.
pub(crate) fn run(mut consensus: Consensus, shared: &Arc<Shared>, tick: Duration) {
    let mut router = Router::new(Arc::clone(shared));
    let (mut inputs, mut out) = (VecDeque::new(), Vec::new());
    let mut next_tick = Instant::now();
    loop {
        if Instant::now() >= next_tick {
            next_tick = Instant::now() + tick;
            shared.ticks.ticked();
            consensus.take(ConsensusInput::Tick, &mut out);
            consensus.end_round(&mut out);
            deliver(&consensus, shared, &mut router, &mut out);
        }
        let wake = consensus.wake_for();
        if !shared.queues.consensus.drain_woken_by(wake, &mut inputs, Some(next_tick)) {
            return;
        }
        for input in inputs.drain(..) {
            consensus.take(input, &mut out);
        }
        consensus.end_round(&mut out);
        deliver(&consensus, shared, &mut router, &mut out);
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

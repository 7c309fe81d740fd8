//! The faults: each affects one member, and ends before the next one begins.

use super::group::{Group, MEMBERS};
use super::network::Flow;
use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FaultKind {
    /// Killed with -9, and started again later.
    Kill,
    /// Stopped with SIGSTOP, and continued later.
    Pause,
    /// Its traffic to and from the other members is held.
    Cut,
    /// Its connections to and from the other members are reset.
    Reset,
    /// Its traffic to the other members is held.
    Mute,
    /// The traffic from the other members is held.
    Deaf,
    /// Its traffic to and from one other member is held.
    Pair,
}

/// The deck that faults are drawn from. It is shuffled again when all are drawn; kills are in it
/// twice.
const DECK: [FaultKind; 8] = [
    FaultKind::Kill,
    FaultKind::Pause,
    FaultKind::Cut,
    FaultKind::Reset,
    FaultKind::Kill,
    FaultKind::Mute,
    FaultKind::Deaf,
    FaultKind::Pair,
];

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            FaultKind::Kill => "kill -9",
            FaultKind::Pause => "SIGSTOP",
            FaultKind::Cut => "cut off",
            FaultKind::Reset => "connections reset",
            FaultKind::Mute => "cut, outgoing",
            FaultKind::Deaf => "cut, incoming",
            FaultKind::Pair => "cut from one member",
        })
    }
}

/// The next fault.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strike {
    pub(super) kind: FaultKind,
    pub(super) member: usize,
    pub(super) is_leader: bool,
    pub(super) lasts: Duration,
}

/// Chooses faults.
#[derive(Debug)]
pub(super) struct Nemesis {
    rng: StdRng,
    every: Duration,
    deck: Vec<FaultKind>,
    /// How often each kind occurred, and how often it hit the leader.
    pub(super) done: BTreeMap<FaultKind, (u64, u64)>,
    /// How often a leader was hit that ran the first member's program, and how often one that ran
    /// another.
    pub(super) leaders: [u64; 2],
    /// Times from the kill of the leader to the next acknowledged write.
    pub(super) failovers: Vec<Duration>,
    /// Times from the end of a fault until each member served again.
    pub(super) recoveries: Vec<Duration>,
}

impl Nemesis {
    pub(super) fn new(seed: u64, every: Duration) -> Nemesis {
        Nemesis {
            rng: StdRng::seed_from_u64(seed),
            every,
            deck: Vec::new(),
            done: BTreeMap::new(),
            leaders: [0; 2],
            failovers: Vec::new(),
            recoveries: Vec::new(),
        }
    }

    /// Chooses the next fault. Every other kill hits the leader, as do about half of the other
    /// faults.
    pub(super) async fn choose(&mut self, group: &Group) -> Strike {
        if self.deck.is_empty() {
            self.deck.extend(DECK);
            self.deck.shuffle(&mut self.rng);
        }
        let kind = self.deck.pop().unwrap_or(FaultKind::Kill);
        let (coin, random) = (self.rng.random(), self.rng.random_range(0..MEMBERS));
        let before = self.done.get(&kind).map_or(0, |(count, _)| *count);
        let prefers_leader = if kind == FaultKind::Kill { before.is_multiple_of(2) } else { coin };
        let lasts = self.every.mul_f64(self.rng.random_range(0.15..0.55));
        let leader = group.leader().await;
        let member = leader.filter(|_| prefers_leader).unwrap_or(random);
        Strike { kind, member, is_leader: leader == Some(member), lasts }
    }

    /// Begins the fault, waits, ends it, and waits until each member serves.
    pub(super) async fn strike(&mut self, group: &mut Group, strike: Strike) -> Result<()> {
        let Strike { kind, member, is_leader, lasts } = strike;
        let end = tokio::time::Instant::now() + lasts;
        let counts = self.done.entry(kind).or_default();
        *counts = (counts.0 + 1, counts.1 + u64::from(is_leader));
        let others: Vec<usize> = (0..MEMBERS).filter(|at| *at != member).collect();
        let (from, to): (&[usize], &[usize]) = match kind {
            FaultKind::Kill | FaultKind::Pause => (&[], &[]),
            FaultKind::Cut | FaultKind::Reset => (&others, &others),
            FaultKind::Mute => (&[], &others),
            FaultKind::Deaf => (&others, &[]),
            FaultKind::Pair => (&others[..1], &others[..1]),
        };
        let flow = if kind == FaultKind::Reset { Flow::Broken } else { Flow::Silent };
        from.iter().for_each(|other| group.network.set(*other, member, flow));
        to.iter().for_each(|other| group.network.set(member, *other, flow));
        match kind {
            FaultKind::Kill => group.kill(member)?,
            FaultKind::Pause => group.nodes[member].pause()?,
            FaultKind::Cut
            | FaultKind::Reset
            | FaultKind::Mute
            | FaultKind::Deaf
            | FaultKind::Pair => {}
        }
        if kind == FaultKind::Kill && is_leader {
            let time = group.probes.next_acknowledged(&others).await?;
            self.failovers.push(time);
        }
        tokio::time::sleep_until(end).await;
        match kind {
            FaultKind::Kill => group.start_member(member)?,
            FaultKind::Pause => group.nodes[member].go_on()?,
            FaultKind::Cut
            | FaultKind::Reset
            | FaultKind::Mute
            | FaultKind::Deaf
            | FaultKind::Pair => group.network.heal(),
        }
        self.recoveries.push(group.served().await?);
        Ok(())
    }
}

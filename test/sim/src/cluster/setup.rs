//! The set-up of a seed's cluster: its size, its members' options, and its kinds of faults.

use super::clock::{MS, SECOND};
use super::fault::FaultKind;
use super::process::Tuning;
use executor::{BootOptions, Founding};
use proto::NodeId;
use random::Random;
use std::time::Duration;

/// The parameters of a run.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// The seed of everything.
    pub seed: u64,
    /// The virtual time with faults, in seconds.
    pub seconds: u64,
    /// The number of members; 0 lets the seed choose.
    pub members: usize,
    /// The only kinds of faults; empty for a choice of the seed.
    pub faults: Vec<FaultKind>,
    /// Whether to print what happens.
    pub verbose: bool,
}

/// A set-up cluster.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The options of the hosts; the first ones are of the first members.
    pub(crate) options: Vec<BootOptions>,
    /// The first members.
    pub(crate) first: Vec<NodeId>,
    /// The id of the cluster.
    pub(crate) cluster: u64,
    pub(crate) tuning: Tuning,
    /// A heartbeat interval.
    pub(crate) tick: u64,
    /// The kinds of faults of this run.
    pub(crate) kinds: Vec<FaultKind>,
    /// The mean time between two faults.
    pub(crate) fault_every: u64,
    pub(crate) clients: usize,
    pub(crate) watches: usize,
    /// The mean time between two calls of a client.
    pub(crate) think: u64,
}

impl Setup {
    pub(crate) fn of(plan: &ClusterPlan, random: &mut Random) -> Setup {
        // Mostly three or five.
        let sizes = [1, 2, 3, 3, 3, 3, 4, 4, 5, 5, 5, 7];
        let drawn = sizes[random.index(sizes.len())];
        let members = if plan.members == 0 { drawn } else { plan.members };
        let tuning = Tuning {
            batch_interval: Duration::from_millis([100, 300, 1_000, 5_000][random.index(4)]),
            batch_limit: [20, 100, 10_000][random.index(3)],
            catch_up_entries: [5, 20, 60][random.index(3)],
            snapshots_max: 2,
            segments_max: 2,
        };
        let snapshot_count = [20, 60, 150][random.index(3)];
        let tick = [50 * MS, 100 * MS, 100 * MS, 200 * MS][random.index(4)];
        let (checkpoints, pre_vote) = (random.chance(128), random.chance(128));
        let mut kinds = plan.faults.clone();
        if kinds.is_empty() {
            kinds = FaultKind::ALL.iter().copied().filter(|_| random.chance(100)).collect();
        }
        let is_operated = kinds.iter().any(|kind| kind.is_of_operator());
        let spares = if is_operated { SPARE_HOSTS } else { 0 };
        let options = (0..members + spares).map(|at| {
            let mut options = founding(at, members, random.draw());
            options.settings.snapshot_count = snapshot_count;
            options.settings.lease_extend_ms = options.election_ticks * tick / MS;
            options.settings.lease_checkpoints.propose = checkpoints;
            options.pre_vote = pre_vote;
            if plan.seed.is_multiple_of(3) {
                // A small window, so that entries for a member that is behind are read from the
                // log.
                options.log_sizes.window_bytes = 2 << 10;
            }
            options
        });
        let options = options.collect();
        let clients = 5 + random.index(6);
        let first = first_members(members);
        Setup {
            options,
            cluster: cluster::cluster_id(first.iter().copied()),
            first,
            tuning,
            tick,
            kinds,
            fault_every: 4 * SECOND + random.below(16 * SECOND),
            clients,
            watches: 2 + random.index(4),
            think: clients as u64 * SECOND / 20,
        }
    }

    /// Whether members come and go.
    pub(crate) fn is_operated(&self) -> bool {
        self.kinds.iter().any(|kind| kind.is_of_operator())
    }

    /// The longest time without a leader until an election begins.
    pub(crate) fn election_timeout(&self) -> u64 {
        let ticks = self.options.first().map_or(10, |options| options.election_ticks);
        2 * ticks * self.tick
    }
}

/// The number of spare hosts for added members.
const SPARE_HOSTS: usize = 2;
/// A part of the ids of the first members.
const TOKEN: &str = "simulated";

fn first_members(members: usize) -> Vec<NodeId> {
    (0..members).map(|at| cluster::member_id(&peer_urls(at), TOKEN, None)).collect()
}

/// The peer URLs of a member on a host.
pub(crate) fn peer_urls(at: usize) -> Vec<String> {
    vec![format!("http://host{at}:2380")]
}

/// The options of one of the first members, or of a host without one.
fn founding(at: usize, members: usize, seed: u64) -> BootOptions {
    let mut options = BootOptions::simulated(seed);
    let name = |at: usize| format!("m{at}");
    let first = |at: usize| (name(at), peer_urls(at));
    options.founding = Some(Founding::New {
        name: name(at),
        members: (0..members).map(first).collect(),
        token: TOKEN.into(),
    });
    options.attributes.name = name(at);
    options.settings.attributes = options.attributes.clone();
    options
}

//! Three members on loopback. Their ports are fixed and below those that the operating system gives
//! to outgoing connections, so that no other process takes a port while its member is down.

use super::network::Network;
use super::probe::Probes;
use anyhow::{Context as _, Result, ensure};
use conformance::cluster::{Node, Ports, leader};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The number of members.
pub const MEMBERS: usize = 3;
/// How long to wait for a member's status. A stopped member does not answer.
const STATUS_TIME_MAX: Duration = Duration::from_millis(500);
/// How long a member may take until it serves, once all faults have ended.
const SERVED_WITHIN: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(20);

/// The programs, ports and flags of a cluster.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program of each member.
    pub programs: [PathBuf; MEMBERS],
    /// The first of nine ports.
    pub first_port: u16,
    /// Flags of each member besides the usual ones.
    pub flags: Vec<String>,
}

/// The cluster.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) nodes: Vec<Node>,
    pub(super) network: Arc<Network>,
    /// The proxies of the network.
    listening: JoinSet<()>,
    pub(super) probes: Arc<Probes>,
    /// The programs and ports of the members.
    plan: Plan,
    flags: Vec<String>,
}

impl Group {
    /// Starts the members and waits until each serves writes.
    pub(super) async fn start(plan: &Plan) -> Result<Group> {
        let ports: Vec<Ports> = (plan.first_port..)
            .step_by(MEMBERS)
            .take(MEMBERS)
            .map(|first| Ports { client: first, peer: first + 1, advertised: first + 2 })
            .collect();
        let proxied: Vec<_> = ports.iter().map(|it| (it.advertised, it.peer)).collect();
        let (network, listening) = Network::start(&proxied).await?;
        let url = |(at, it): (usize, &Ports)| format!("m{at}=http://127.0.0.1:{}", it.advertised);
        let all: Vec<String> = ports.iter().enumerate().map(url).collect();
        let mut flags = vec!["--initial-cluster".to_owned(), all.join(",")];
        flags.extend(plan.flags.iter().cloned());
        let nodes: Result<Vec<Node>> = ports
            .iter()
            .enumerate()
            .map(|(at, it)| {
                Node::planned(&plan.programs[at], &format!("m{at}"), *it, flags.clone())
            })
            .collect();
        let nodes = nodes?;
        let channels: Result<Vec<_>> = nodes.iter().map(Node::channel).collect();
        let probes = Arc::new(Probes::new(channels?));
        let plan = plan.clone();
        let mut group = Group { nodes, network, listening, probes, plan, flags };
        for at in 0..MEMBERS {
            group.start_member(at)?;
        }
        for node in &mut group.nodes {
            node.wait_until_it_answers().await?;
        }
        group.served().await?;
        Ok(group)
    }

    /// Ends the members and the network, so that another cluster can use their ports.
    pub(super) async fn end(mut self) {
        self.nodes.clear();
        self.listening.shutdown().await;
    }

    /// Starts a member that does not run.
    pub(super) fn start_member(&mut self, at: usize) -> Result<()> {
        self.nodes[at].start()?;
        self.network.is_process(at, self.nodes[at].pid());
        Ok(())
    }

    /// Kills a member with -9.
    pub(super) fn kill(&mut self, at: usize) -> Result<()> {
        self.network.is_process(at, None);
        self.nodes[at].kill()
    }

    /// Ends a member by SIGTERM, or by kill -9, and starts another program on its directory.
    pub(super) async fn replace(&mut self, at: usize, by: &Path, is_killed: bool) -> Result<()> {
        self.network.is_process(at, None);
        if is_killed {
            self.nodes[at].kill()?;
        } else {
            self.nodes[at].stop().await?;
        }
        by.clone_into(&mut self.plan.programs[at]);
        self.nodes[at].becomes(by, self.flags.clone());
        self.start_member(at)
    }

    /// Which members run another program than the first one.
    pub(super) fn kinds(&self) -> [bool; MEMBERS] {
        let programs = &self.plan.programs;
        std::array::from_fn(|at| programs[at] != programs[0])
    }

    /// Moves the leadership to this member.
    pub(super) async fn lead(&self, at: usize) -> Result<()> {
        let deadline = Instant::now() + SERVED_WITHIN;
        loop {
            let leader = self.agreed_leader().await?;
            if leader == at {
                return Ok(());
            }
            // Fails if an election comes between. Then it is tried again.
            let moved = self.nodes[leader].move_leader(self.nodes[at].id).await;
            ensure!(Instant::now() < deadline, "m{at} does not become the leader: {moved:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// The member that most members report as their leader.
    pub(super) async fn leader(&self) -> Option<usize> {
        let mut votes: BTreeMap<usize, usize> = BTreeMap::new();
        for node in &self.nodes {
            let Ok(Ok(status)) = timeout(STATUS_TIME_MAX, node.status()).await else { continue };
            let at = self.nodes.iter().position(|other| other.id == status.leader);
            *votes.entry(at.unwrap_or(MEMBERS)).or_default() += 1;
        }
        votes.remove(&MEMBERS);
        votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(at, _)| at)
    }

    /// The leader on which all members agree.
    pub(super) async fn agreed_leader(&self) -> Result<usize> {
        leader(&self.nodes).await
    }

    /// Waits until a write through each member is acknowledged. Returns how long that took.
    pub(super) async fn served(&self) -> Result<Duration> {
        let began = Instant::now();
        for at in 0..MEMBERS {
            while let Err(error) = self.probes.write(at).await {
                let log = || format!("{error}; its log:\n{}", self.nodes[at].last_lines());
                ensure!(
                    began.elapsed() < SERVED_WITHIN,
                    "member m{at} does not serve within {SERVED_WITHIN:?}: {}",
                    log()
                );
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(began.elapsed())
    }

    /// Returns the result of a run. If it has failed, keeps all directories and names them in the
    /// error.
    pub(super) fn kept_if_failed<T>(&mut self, ended: Result<T>) -> Result<T> {
        ended.map_err(|error| error.context(format!("data and logs are in {:?}", self.keep())))
    }

    /// Keeps all directories on the disk and returns their names.
    pub(super) fn keep(&mut self) -> Vec<&Path> {
        self.nodes.iter_mut().map(Node::keep).collect()
    }

    /// Fails if a member has logged a panic.
    pub(super) fn check_logs(&self) -> Result<()> {
        for node in &self.nodes {
            let text = std::fs::read_to_string(node.log()).context("a log")?;
            let bad = text.lines().find(|line| {
                ["panicked at", "\"level\":\"fatal\"", "\"level\":\"panic\""]
                    .iter()
                    .any(|word| line.contains(word))
            });
            ensure!(bad.is_none(), "{} has logged: {}", node.name, bad.unwrap_or_default());
        }
        Ok(())
    }
}

//! Go's etcd and ours serve one directory in turn. Each must show the same data as the one before
//! it.

use super::access::Access;
use super::bbolt::Bbolt;
use super::burst::Burst;
use super::contents::Contents;
use super::picture::Picture;
use super::program::Program;
use super::v2_keys;
use crate::cluster::{Node, Ports};
use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use std::fmt;

/// How a server ends before the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ending {
    /// By SIGTERM.
    Clean,
    /// By kill -9.
    Kill,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Ending::Clean => "SIGTERM",
            Ending::Kill => "kill -9",
        })
    }
}

/// The turns on one directory: theirs, ours, theirs, ours.
#[derive(Clone, Debug)]
pub struct Turns {
    /// Our server.
    pub ours: Program,
    /// Go's etcd.
    pub theirs: Program,
    /// How each server ends.
    pub ending: Ending,
    /// The kind of contents.
    pub contents: Contents,
    /// The seed of the contents.
    pub seed: u64,
    /// The official tool for database files: each step checks the file while the server is idle, and
    /// after its end.
    pub bbolt: Bbolt,
}

/// The state in which one server has left the directory.
struct Left {
    picture: Picture,
    burst: Burst,
    version: String,
    /// The v2 keys that Go's etcd showed last.
    v2: Option<Value>,
}

/// A report in one line.
#[derive(Clone, Debug, Default)]
struct Tally {
    keys: usize,
    revision: i64,
    acknowledged: usize,
    /// Acknowledged writes that were lost by versions of Go's etcd which lose some when killed.
    lost: usize,
}

impl fmt::Display for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (contents, theirs) = (format!("{:?}", self.contents), &self.theirs.name);
        write!(f, "{theirs:7} {} {contents:9} seed {}", self.ending, self.seed)
    }
}

impl Turns {
    /// Takes the turns. Returns a report.
    ///
    /// # Errors
    /// When a server shows other data than the one before. The directory is kept, and named in the
    /// error.
    pub async fn run(&self) -> Result<String> {
        let peer = ports::free()?;
        let ports = Ports { client: ports::free()?, peer, advertised: peer };
        let mut node = Node::planned(&self.theirs.path, "m0", ports, Vec::new())?;
        match self.take(&mut node).await {
            Ok(tally) => Ok(format!(
                "{self}: 4 servers in turn, {} keys up to revision {}, HashKV equal, {} writes \
                 acknowledged while they ended, {} of them lost by {} itself",
                tally.keys, tally.revision, tally.acknowledged, tally.lost, self.theirs.name
            )),
            Err(error) => {
                let kept = node.keep().display().to_string();
                Err(error.context(format!("{self}: data and log are in {kept}")))
            }
        }
    }

    async fn take(&self, node: &mut Node) -> Result<Tally> {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let snapshot_count = self.contents.snapshot_count();
        let snapshot_count =
            snapshot_count.unwrap_or_else(|| [7, 100, 100_000][rng.random_range(0..3)]);
        let mut tally = Tally::default();
        let mut left: Option<Left> = None;
        let programs = [&self.theirs, &self.ours, &self.theirs, &self.ours];
        for (step, program) in (0..).zip(programs) {
            let mut flags = flags(program, node, snapshot_count);
            if self.contents == Contents::V2 && program.path == self.theirs.path {
                flags.push("--enable-v2".to_owned());
            }
            node.becomes(&program.path, flags);
            let turn = self.turn(node, step, left.take(), (&mut rng, &mut tally));
            let now = turn.await.with_context(|| format!("step {step}, {}", program.name))?;
            left = Some(now);
        }
        check_log(node)?;
        Ok(tally)
    }

    /// The turn of one server: checks that it shows the data that was left, writes, and ends it.
    async fn turn(
        &self,
        node: &mut Node,
        step: u32,
        left: Option<Left>,
        (rng, tally): (&mut StdRng, &mut Tally),
    ) -> Result<Left> {
        node.start()?;
        let is_guarded = step > 0 && self.contents.is_guarded();
        let mut access = Access::served(node, is_guarded).await?;
        let mut v2 = left.as_ref().and_then(|left| left.v2.clone());
        if let Some(left) = left {
            let is_theirs_killed = self.ending == Ending::Kill && node.runs(&self.ours.path);
            let lost_max = if is_theirs_killed { self.theirs.lost_by_kill_max() } else { 0 };
            let (acknowledged, lost) = left.burst.check(&access, lost_max).await?;
            (tally.acknowledged, tally.lost) =
                (tally.acknowledged + acknowledged, tally.lost + lost);
            let now = Picture::take(&access, left.picture.revision).await?;
            let differences = left.picture.differences(&now);
            ensure!(differences.is_empty(), "it shows something else:\n{}", differences.join("\n"));
            if !node.runs(&self.ours.path) {
                ensure!(v2_keys::all(node, self.contents).await? == left.v2, "other v2 keys");
            } else {
                let version = node.cluster_version().await?;
                ensure!(version == left.version, "{} became {version}", left.version);
            }
        }
        self.contents.write(node, &mut access, step, rng).await.context("writing")?;
        let picture = Picture::now(&access).await?;
        (tally.keys, tally.revision) = (picture.keys.len(), picture.revision);
        let version = node.cluster_version().await?;
        if !node.runs(&self.ours.path) {
            v2_keys::write(node, self.contents, step).await.context("v2 keys")?;
            v2 = v2_keys::all(node, self.contents).await?;
        }
        let database = node.data_dir().join("member/snap/db");
        self.bbolt.check_copy(&database).context("while idle")?;
        if !node.runs(&self.ours.path) && self.theirs.lost_by_kill_max() > 0 {
            // Without a commit here, the write that the kill may cost is one of the picture's.
            access.force_commit().await?;
        }
        let mut burst = Burst::begin(&access, step).await?;
        match self.ending {
            Ending::Clean => drop(node.stop().await?),
            Ending::Kill => node.kill()?,
        }
        burst.end().await?;
        self.bbolt.check(&database).context("after its end")?;
        self.contents.check(&node.data_dir())?;
        Ok(Left { picture, burst, version, v2 })
    }
}

fn flags(program: &Program, node: &Node, snapshot_count: u32) -> Vec<String> {
    let mut flags = program.log_flags();
    flags.push(format!("--initial-cluster={}={}", node.name, node.peer_url()));
    flags.push(format!("--snapshot-count={snapshot_count}"));
    // The lowest cost, since password hashing is not under test.
    flags.push("--bcrypt-cost=4".to_owned());
    flags
}

/// Fails if a server has logged a panic or a fatal error.
fn check_log(node: &Node) -> Result<()> {
    let text = std::fs::read_to_string(node.log())?;
    let words = ["panicked at", "panic: ", "\"level\":\"fatal\"", "\"level\":\"panic\""];
    let bad = text.lines().find(|line| words.iter().any(|word| line.contains(word)));
    ensure!(bad.is_none(), "a server has logged: {}", bad.unwrap_or_default());
    Ok(())
}

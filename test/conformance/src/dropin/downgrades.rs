//! Downgrades of directories that Go's etcds left: ours serves each, `downgrade enable` lowers its
//! version to each older one from 3.4 on, and the Go's etcd of that version serves what ours left,
//! and ours what that left.
//!
//! The directories are those of `go-data` (`RETCD_TESTDATA`), with what their servers showed last.

use super::access::{Access, Login};
use super::bbolt::Bbolt;
use super::directory::Ending;
use super::picture::Picture;
use super::program::Program;
use crate::cluster::{Node, Ports, until_done};
use anyhow::{Context as _, Result, bail, ensure};
use bolt::{Db, Options, PageCache};
use proto::etcdserverpb::downgrade_request::DowngradeAction;
use proto::etcdserverpb::{DowngradeRequest, StatusRequest};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;
use vfs::RealDisk;

/// The user of the directories with authentication.
const ROOT: Login = ("root", "pw");
/// The versions that a cluster can go back to.
pub const TARGETS: [(u64, u64); 3] = [(3, 4), (3, 5), (3, 6)];

/// The downgrade of one directory.
#[derive(Clone, Debug)]
pub struct Downgrade {
    /// The archive with the directory.
    pub archive: PathBuf,
    /// The version to go back to.
    pub target: (u64, u64),
    /// Our server.
    pub ours: Program,
    /// Go's etcd of that version, if there is one.
    pub theirs: Option<Program>,
    /// How our server ends after the downgrade.
    pub ending: Ending,
    /// The official tool for database files.
    pub bbolt: Bbolt,
}

/// The archives with the versions of their clusters, which their names begin with.
///
/// # Errors
/// When they cannot be listed, or a name has no version.
pub fn archives(go_data: &Path) -> Result<Vec<(PathBuf, (u64, u64))>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(go_data).with_context(|| go_data.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(name) = name.strip_suffix(".tar.gz") {
            let from = name.strip_prefix("upgraded-3.4-to-").unwrap_or(name);
            let version = minor(from.split('-').next().unwrap_or_default())?;
            found.push((path, version));
        }
    }
    found.sort();
    Ok(found)
}

fn minor(version: &str) -> Result<(u64, u64)> {
    let mut numbers = version.split('.').map(str::parse);
    let mut next = || numbers.next().with_context(|| format!("{version:?} is no version"));
    Ok((next()??, next()??))
}

/// The storage version that `Status` reports at a cluster version, and the field in the file. Below
/// 3.6 the file has none: 3.5 is inferred from the raft term, which 3.4 ignores.
fn storage_version(target: (u64, u64)) -> (&'static str, Option<&'static str>) {
    if target == (3, 6) { ("3.6.0", Some("3.6.0")) } else { ("3.5.0", None) }
}

impl Downgrade {
    /// Whether the members must have the ports that the directory names.
    #[must_use]
    pub fn has_fixed_ports(&self) -> bool {
        self.name().ends_with("-cluster")
    }

    fn name(&self) -> String {
        let name = self.archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.trim_end_matches(".tar.gz").to_owned()
    }

    /// Serves the directory, downgrades it, and serves it by the older version. Returns a report.
    ///
    /// # Errors
    /// When a server shows something else, or does not start.
    pub async fn run(&self) -> Result<String> {
        let (major, minor) = self.target;
        let what = || format!("{} to {major}.{minor}, ended by {}", self.name(), self.ending);
        let done = self.take().await.with_context(what)?;
        Ok(format!("{}: {done}", what()))
    }

    async fn take(&self) -> Result<String> {
        let dir = TempDir::new()?;
        let mut tar = Command::new("tar");
        tar.args(["--sparse", "-xzf"]).arg(&self.archive).arg("-C").arg(dir.path());
        ensure!(tar.status()?.success(), "it cannot be unpacked");
        let mut nodes = self.nodes(dir.path())?;
        let login = self.name().ends_with("-auth").then_some(ROOT);
        let answers = dir.path().join("expected");
        let members = serve(&mut nodes, &self.ours, login).await?;
        let before = pictures(&members).await?;
        check_expected(&before, &answers)?;
        let snapshots: Result<Vec<BTreeSet<String>>> = nodes.iter().map(snapshots).collect();
        self.go_down(&nodes, &members).await?;
        for (node, before) in nodes.iter().zip(snapshots?) {
            new_snapshot(node, &before).await?;
        }
        same(&before, &pictures(&members).await?).context("after the downgrade")?;
        self.end(&mut nodes).await?;
        for node in &nodes {
            let stored = stored_version(&node.data_dir())?;
            let expected = storage_version(self.target).1;
            ensure!(stored.as_deref() == expected, "the file has {stored:?}, not {expected:?}");
            self.bbolt.check(&node.data_dir().join("member/snap/db"))?;
        }
        let mut served = vec!["ours"];
        if let Some(theirs) = &self.theirs {
            let members = serve(&mut nodes, theirs, login).await.context(theirs.name.clone())?;
            same(&before, &pictures(&members).await?).context(theirs.name.clone())?;
            for node in &mut nodes {
                node.stop().await?;
            }
            served.push(&theirs.name);
        }
        // Ours does not start on a log with v2 requests after the newest snapshot, and Go's etcd
        // writes one each half second while a v2 key has a TTL.
        if self.name().ends_with("-v2") {
            return Ok(format!("{} members, served by {}", nodes.len(), served.join(", then ")));
        }
        let members = serve(&mut nodes, &self.ours, login).await.context("ours again")?;
        same(&before, &pictures(&members).await?).context("ours again")?;
        let version = nodes[0].cluster_version().await?;
        ensure!(minor(&version)? == self.target, "the cluster became {version}");
        served.push("ours");
        Ok(format!("{} members, served by {}", nodes.len(), served.join(", then ")))
    }

    /// The members of the directory, at their addresses.
    fn nodes(&self, unpacked: &Path) -> Result<Vec<Node>> {
        let members = fs::read_to_string(unpacked.join("expected/members.json"))?;
        let members: Value = serde_json::from_str(&members)?;
        let members = members["members"].as_array().context("no members")?;
        let mut nodes = Vec::new();
        for member in members {
            let name = member["name"].as_str().context("no name")?;
            // A single member is reached by nobody, so that any address will do.
            let (from, peer) = if members.len() == 1 {
                (unpacked.join("data"), ports::free()?)
            } else {
                let url = member["peerURLs"][0].as_str().context("no URL")?;
                let port = url.rsplit(':').next().context("no port")?;
                (unpacked.join(name), port.parse()?)
            };
            let ports = Ports { client: ports::free()?, peer, advertised: peer };
            let node = Node::planned(&self.ours.path, name, ports, Vec::new())?;
            fs::rename(from, node.data_dir())?;
            nodes.push(node);
        }
        Ok(nodes)
    }

    /// Enables the downgrade, and waits until all members have done it.
    async fn go_down(&self, nodes: &[Node], members: &[Access]) -> Result<()> {
        let version = format!("{}.{}", self.target.0, self.target.1);
        let voter = voter(members).await?;
        for action in [DowngradeAction::Validate, DowngradeAction::Enable] {
            let request = DowngradeRequest { action: action.into(), version: version.clone() };
            voter.maintenance.clone().downgrade(request).await.context("the downgrade")?;
        }
        let expected = storage_version(self.target).0;
        for (node, access) in nodes.iter().zip(members) {
            let look = || async {
                let cluster = node.cluster_version().await?;
                let status =
                    access.maintenance.clone().status(StatusRequest {}).await?.into_inner();
                let stored = status.storage_version;
                let is_done = minor(&cluster)? == self.target && stored == expected;
                if is_done { Ok(()) } else { bail!("not yet: {cluster}, stored {stored:?}") }
            };
            until_done("not yet", look).await?;
        }
        Ok(())
    }

    async fn end(&self, nodes: &mut [Node]) -> Result<()> {
        for node in nodes {
            match self.ending {
                Ending::Clean => drop(node.stop().await?),
                Ending::Kill => node.kill()?,
            }
        }
        Ok(())
    }
}

/// The snapshots of a member.
fn snapshots(node: &Node) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(node.data_dir().join("member/snap"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".snap") {
            found.insert(name);
        }
    }
    Ok(found)
}

/// Waits until a member has saved the snapshot that follows a lower version. Without it, 3.4 would
/// read from the log that the version once was higher, and refuse the directory.
async fn new_snapshot(node: &Node, before: &BTreeSet<String>) -> Result<()> {
    let look = || async {
        let is_new = snapshots(node)?.difference(before).next().is_some();
        if is_new { Ok(()) } else { bail!("no new snapshot") }
    };
    until_done("no new snapshot", look).await
}

/// Starts a program on each directory. Returns when all serve.
async fn serve(nodes: &mut [Node], program: &Program, login: Option<Login>) -> Result<Vec<Access>> {
    for node in nodes.iter_mut() {
        node.becomes(&program.path, program.log_flags());
        node.start()?;
    }
    let mut members = Vec::new();
    for node in nodes {
        members.push(Access::served_to(node, login).await?);
    }
    Ok(members)
}

/// A member that is no learner.
async fn voter(members: &[Access]) -> Result<&Access> {
    for access in members {
        if !access.is_learner().await? {
            return Ok(access);
        }
    }
    bail!("there are only learners")
}

/// What each member shows, except for learners, which answer few calls.
async fn pictures(members: &[Access]) -> Result<Vec<Picture>> {
    let mut found = Vec::new();
    for access in members {
        if !access.is_learner().await? {
            found.push(Picture::now(access).await?);
        }
    }
    Ok(found)
}

fn same(before: &[Picture], now: &[Picture]) -> Result<()> {
    ensure!(before.len() == now.len(), "other voters");
    for (before, now) in before.iter().zip(now) {
        let differences = before.data_differences(now);
        ensure!(differences.is_empty(), "it shows something else:\n{}", differences.join("\n"));
    }
    Ok(())
}

/// Compares with what the server of the directory showed last.
fn check_expected(found: &[Picture], answers: &Path) -> Result<()> {
    let hash: Value = serde_json::from_str(&fs::read_to_string(answers.join("hashkv.json"))?)?;
    let hash = &hash[0]["HashKV"];
    let wanted = (hash["header"]["revision"].as_i64(), hash["hash"].as_u64());
    for picture in found {
        let now = (Some(picture.revision), Some(u64::from(picture.hash)));
        ensure!(now == wanted, "revision and HashKV are {now:?}, not {wanted:?}");
    }
    Ok(())
}

/// The storage version in the file of a member that has ended.
fn stored_version(data_dir: &Path) -> Result<Option<String>> {
    let cache = Arc::new(PageCache::new(1 << 20));
    let options = Options { new_page_size: 4096, cache, read_only: true };
    let db = Db::open_existing(&RealDisk, &data_dir.join("member/snap/db"), options)?;
    let stored = db.view().get(b"meta", b"storageVersion")?;
    Ok(stored.map(|text| String::from_utf8_lossy(&text).into_owned()))
}

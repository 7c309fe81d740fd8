//! Snapshots of ours and of Go's etcds, saved, restored and served by each other's programs.
//!
//! A *source* is a member with contents. Each `etcdctl` saves a snapshot of it. Each program that
//! reads snapshots must say the same of each, and restores it for a new cluster, which each server
//! that is not older must serve with the same keys, leases, users and HashKV.

use super::access::Access;
use super::bbolt::Bbolt;
use super::contents::Contents;
use super::picture::Picture;
use super::program::Program;
use super::tool::Tool;
use crate::cluster::{Node, Ports, until_done};
use anyhow::{Context as _, Result, bail, ensure};
use proto::etcdserverpb::{PutRequest, RangeRequest};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The value of `--bump-revision`.
const BUMP: i64 = 1_000_000;
/// The members of a restored cluster.
const MEMBERS: usize = 3;

/// A member whose snapshots are saved.
#[derive(Clone, Debug)]
pub struct Source {
    /// The servers that serve its directory, one after the other. The last one is asked for
    /// snapshots.
    pub servers: Vec<Program>,
    /// All programs: ours, then Go's.
    pub all: Vec<Program>,
    /// The official tool for database files.
    pub bbolt: Bbolt,
    /// The seed of the contents and of the sample.
    pub seed: u64,
    /// The number of combinations; all if there is no number.
    pub sample: Option<usize>,
}

/// How a snapshot is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// For a single member.
    Single,
    /// For each of three members.
    Cluster,
    /// With `--bump-revision` and `--mark-compacted`.
    Bumped,
    /// The database of the stopped member in place of a snapshot, with `--skip-hash-check`.
    Copied,
}

/// One combination.
#[derive(Clone, Debug)]
struct Case {
    saver: String,
    file: PathBuf,
    tool: Tool,
    starter: Program,
    form: Form,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (saver, tool, starter) = (&self.saver, &self.tool.name, &self.starter.name);
        write!(f, "saved by {saver}, restored by {tool} ({:?}), served by {starter}", self.form)
    }
}

/// What the source showed, and its version.
struct Original {
    picture: Picture,
    version: String,
    /// The HashKV of the first restore with a bumped revision. All must have the same.
    bumped: Option<u32>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.servers.iter().map(|server| &*server.name).collect();
        f.write_str(&names.join(", then "))
    }
}

/// The members: those of Go's etcds, ours on the directory of each, and ours.
#[must_use]
pub fn sources(ours: &Program, theirs: &[Program]) -> Vec<Vec<Program>> {
    let alone = theirs.iter().map(|go| vec![go.clone()]);
    let after = theirs.iter().map(|go| vec![go.clone(), ours.clone()]);
    alone.chain(after).chain([vec![ours.clone()]]).collect()
}

impl Source {
    /// Saves, restores and serves its snapshots. Returns a report.
    ///
    /// # Errors
    /// The first combination with another result.
    pub async fn run(&self) -> Result<String> {
        self.combine().await.with_context(|| format!("a snapshot of {self}, seed {}", self.seed))
    }

    async fn combine(&self) -> Result<String> {
        let dir = TempDir::new()?;
        let peer = ports::free()?;
        let ports = Ports { client: ports::free()?, peer, advertised: peer };
        let mut node = Node::planned(&self.servers[0].path, "m0", ports, Vec::new())?;
        let (original, savers) = self.save(&mut node, dir.path()).await?;
        let copy = dir.path().join("copy.db");
        std::fs::copy(node.data_dir().join("member/snap/db"), &copy)?;
        self.bbolt.check(&copy)?;
        let mut original = original;
        let cases = self.chosen(self.cases(&savers, &copy)?);
        for case in &cases {
            let served = self.serve(case, &mut original).await;
            served.with_context(|| case.to_string())?;
        }
        Ok(format!(
            "{self}: snapshots by {} programs say the same of {} keys up to revision {}; {} \
             restores serve the same",
            savers.len(),
            original.picture.keys.len(),
            original.picture.revision,
            cases.len()
        ))
    }

    /// Fills the member, has each `etcdctl` save a snapshot, and stops it.
    async fn save(
        &self,
        node: &mut Node,
        dir: &Path,
    ) -> Result<(Original, Vec<(String, PathBuf)>)> {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut version = String::new();
        let mut found = None;
        for (step, server) in (0..).zip(&self.servers) {
            if node.pid().is_some() {
                node.stop().await?;
            }
            let cluster = format!("--initial-cluster={}={}", node.name, node.peer_url());
            node.becomes(&server.path, flags(server, cluster));
            node.start()?;
            let mut access = Access::served(node, step > 0).await?;
            for contents in [Contents::Compacted, Contents::Leases, Contents::Auth] {
                let written = contents.write(node, &mut access, step, &mut rng).await;
                written.with_context(|| format!("{contents:?} by {}", server.name))?;
            }
            let now = decided_version(node).await?;
            ensure!(step == 0 || now == version, "{version} became {now}");
            version = now;
            found = Some(Picture::now(&access).await?);
        }
        let picture = found.context("no server")?;
        let mut savers = Vec::new();
        for (number, program) in self.all.iter().enumerate() {
            let tool = Tool::ctl(program)?;
            let file = dir.join(format!("{number}.db"));
            tool.save(&node.url(), &file)?;
            savers.push((tool.name, file));
        }
        node.stop().await?;
        self.compare_status(&savers, &picture)?;
        Ok((Original { picture, version, bumped: None }, savers))
    }

    /// Has each program read each snapshot. All must report the same hash, revision and size. The number
    /// of keys depends on the version.
    fn compare_status(&self, savers: &[(String, PathBuf)], picture: &Picture) -> Result<()> {
        for (saver, file) in savers {
            // Each save logs in first, which changes the applied index in the file.
            let mut first: Option<Value> = None;
            for program in &self.all {
                for tool in Tool::for_files(program)? {
                    let name = file.display().to_string();
                    let words = ["snapshot", "status", &name, "-w", "json"];
                    let out = tool.done(Path::new("/"), &words)?;
                    let json = out.lines().find(|line| line.starts_with('{'));
                    let json: Value = serde_json::from_str(json.context("no JSON")?)?;
                    let told = ["hash", "revision", "totalSize"].map(|field| json[field].clone());
                    let told = Value::from(told.to_vec());
                    ensure!(told[1] == picture.revision, "{} reports {json}", tool.name);
                    let first = first.get_or_insert_with(|| told.clone());
                    ensure!(
                        *first == told,
                        "of the snapshot that {saver} saved, {} reports {told}, not {first}",
                        tool.name
                    );
                }
            }
        }
        Ok(())
    }

    /// All combinations. Programs that are older than the data are left out: as etcd documents,
    /// they need not understand it.
    fn cases(&self, savers: &[(String, PathBuf)], copy: &Path) -> Result<Vec<Case>> {
        let oldest = self.servers[0].minor();
        let mut cases = Vec::new();
        for program in &self.all {
            for tool in Tool::for_files(program)? {
                // 3.4 does not know the buckets that 3.5 and later read.
                let is_too_old = program.minor() < oldest && program.minor() < (3, 5);
                for starter in self.all.iter().filter(|_| !is_too_old) {
                    let needed = if tool.is_ours { oldest } else { oldest.max(program.minor()) };
                    if starter.minor() < needed {
                        continue;
                    }
                    let case = |(saver, file): (&str, &Path), form| Case {
                        saver: saver.to_owned(),
                        file: file.to_owned(),
                        tool: tool.clone(),
                        starter: starter.clone(),
                        form,
                    };
                    for (saver, file) in savers {
                        let saved = (&**saver, &**file);
                        cases.push(case(saved, Form::Single));
                        cases.push(case(saved, Form::Cluster));
                        if tool.is_ours {
                            cases.push(case(saved, Form::Bumped));
                        }
                    }
                    cases.push(case(("cp", copy), Form::Copied));
                }
            }
        }
        Ok(cases)
    }

    fn chosen(&self, mut cases: Vec<Case>) -> Vec<Case> {
        if let Some(count) = self.sample {
            cases.shuffle(&mut StdRng::seed_from_u64(self.seed));
            cases.truncate(count);
        }
        cases
    }

    /// Restores a snapshot, and compares what the new members show with the original.
    async fn serve(&self, case: &Case, original: &mut Original) -> Result<()> {
        let count = if case.form == Form::Cluster { MEMBERS } else { 1 };
        let mut nodes = restored(case, count)?;
        for node in &mut nodes {
            self.bbolt.check(&node.data_dir().join("member/snap/db"))?;
            node.start()?;
        }
        let mut members = Vec::new();
        for node in &mut nodes {
            members.push(Access::served(node, true).await?);
        }
        let urls: BTreeSet<String> = nodes.iter().map(Node::peer_url).collect();
        for access in &members {
            let now = Picture::now(access).await?;
            let found = now.members.iter().flat_map(|member| member.peer_ur_ls.clone());
            let found: BTreeSet<String> = found.collect();
            ensure!(found == urls, "the members are {found:?}, not {urls:?}");
            let expected = expected(original, case.form, &now);
            let differences = expected.data_differences(&now);
            ensure!(differences.is_empty(), "it shows something else:\n{}", differences.join("\n"));
        }
        if case.form == Form::Bumped {
            older_revision_is_compacted(&members[0], original.picture.revision).await?;
        }
        if case.starter.is_ours() && !self.servers[0].is_ours() {
            let now = nodes[0].cluster_version().await?;
            ensure!(now == original.version, "{} became {now}", original.version);
        }
        goes_on(&members).await?;
        for node in &mut nodes {
            node.stop().await?;
            self.bbolt.check(&node.data_dir().join("member/snap/db"))?;
        }
        Ok(())
    }
}

/// The flags of a member. The lowest cost of hashes, since passwords are not under test.
fn flags(program: &Program, cluster: String) -> Vec<String> {
    let mut flags = program.log_flags();
    flags.extend([cluster, "--bcrypt-cost=4".to_owned()]);
    flags
}

/// Waits until the cluster's version is decided. Without it, no server stores its storage version.
async fn decided_version(node: &Node) -> Result<String> {
    let look = || async {
        let version = node.cluster_version().await?;
        let is_decided = !["not_decided", "3.0.0"].contains(&version.as_str());
        if is_decided { Ok(version) } else { bail!("not decided: {version}") }
    };
    until_done("not decided", look).await
}

/// New members whose directories are restored.
fn restored(case: &Case, count: usize) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for number in 0..count {
        let peer = ports::free()?;
        let ports = Ports { client: ports::free()?, peer, advertised: peer };
        nodes.push(Node::planned(&case.starter.path, &format!("r{number}"), ports, Vec::new())?);
    }
    let all: Vec<String> =
        nodes.iter().map(|node| format!("{}={}", node.name, node.peer_url())).collect();
    let cluster = format!("--initial-cluster={}", all.join(","));
    for node in &mut nodes {
        let file = case.file.display().to_string();
        let flag = |name: &str, value: &str| format!("--{name}={value}");
        let mut words = vec![
            flag("name", &node.name),
            flag("data-dir", &node.data_dir().display().to_string()),
            flag("initial-advertise-peer-urls", &node.peer_url()),
            cluster.clone(),
        ];
        match case.form {
            Form::Single | Form::Cluster => {}
            Form::Bumped => words
                .extend([flag("bump-revision", &BUMP.to_string()), "--mark-compacted".to_owned()]),
            Form::Copied => words.push("--skip-hash-check".to_owned()),
        }
        let words = ["snapshot", "restore", &file].into_iter().chain(words.iter().map(|it| &**it));
        case.tool.done(Path::new("/"), &words.collect::<Vec<_>>())?;
        node.becomes(&case.starter.path, flags(&case.starter, cluster.clone()));
    }
    Ok(nodes)
}

/// What a restored member must show.
fn expected(original: &mut Original, form: Form, now: &Picture) -> Picture {
    let picture = original.picture.clone();
    if form != Form::Bumped {
        return picture;
    }
    let revision = picture.revision + BUMP;
    let hash = *original.bumped.get_or_insert(now.hash);
    Picture { revision, compacted: revision, hash, ..picture }
}

/// Clients that ask for an older revision must learn that they missed changes.
async fn older_revision_is_compacted(access: &Access, revision: i64) -> Result<()> {
    let request = RangeRequest { key: "k".into(), revision, ..RangeRequest::default() };
    let refused = access.kv.clone().range(request).await.err().context("it has old revisions")?;
    ensure!(refused.message().contains("has been compacted"), "{refused}");
    Ok(())
}

/// Writes through the first member and reads through the last one.
async fn goes_on(members: &[Access]) -> Result<()> {
    let ([first, ..], [.., last]) = (members, members) else { bail!("no members") };
    let put = PutRequest { key: "after".into(), value: "x".into(), ..PutRequest::default() };
    first.kv.clone().put(put).await.context("a write")?;
    let get = RangeRequest { key: "after".into(), ..RangeRequest::default() };
    let found = last.kv.clone().range(get).await?.into_inner();
    ensure!(found.kvs.len() == 1, "the last member does not show the write");
    Ok(())
}

/// Compares the refusals of bad input. Returns a report.
///
/// # Errors
/// When ours differs from Go's without a row of `docs/differences.md`.
pub async fn refusals(ours: &Program, theirs: &[Program]) -> Result<String> {
    let mut node = Node::found(
        &theirs.iter().min_by_key(|go| go.minor()).context("no version of Go's")?.path,
        "m0",
    )
    .await?;
    for number in 0..100 {
        let put = PutRequest {
            key: format!("k{number}").into(),
            value: "x".into(),
            ..Default::default()
        };
        node.kv()?.put(put).await?;
    }
    let dir = TempDir::new()?;
    let file = dir.path().join("good.db").display().to_string();
    let words = ["--endpoints", &node.url(), "snapshot", "save", &file];
    Tool::ctl(ours)?.done(dir.path(), &words)?;
    node.kill()?;
    super::bad_snapshots::compare(ours, theirs, &std::fs::read(&file)?)
}

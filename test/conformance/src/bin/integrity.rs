//! Corruption checks of three members: equal data raises no alarm, altered data raises the CORRUPT
//! alarm, and with the initial check a member with altered data does not start. Also downgrades,
//! and `--force-new-cluster`. With `--theirs`, in clusters with Go's etcd 3.5, and on its data.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::{Context as _, Result, bail, ensure};
use bolt::{Db, Options, PageCache};
use clap::Parser;
use conformance::cluster::{Node, Ports, leader, until_done};
use prost::Message as _;
use proto::etcdserverpb::downgrade_request::DowngradeAction;
use proto::etcdserverpb::{PutRequest, RangeRequest};
use proto::mvccpb::KeyValue;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::RealDisk;

/// The keys of each cluster.
const KEYS: usize = 50;

/// Compares, downgrades and forces members.
#[derive(Debug, Parser)]
struct Args {
    /// Our server.
    #[arg(long)]
    ours: PathBuf,
    /// Go's etcd 3.5.
    #[arg(long)]
    theirs: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let ours = || Program { path: args.ours.clone(), experimental: false };
    altered_data(&ours()).await?;
    downgrades(&ours(), args.theirs.as_deref()).await?;
    forced(&ours(), &ours()).await?;
    if let Some(theirs) = &args.theirs {
        let theirs = || Program { path: theirs.clone(), experimental: true };
        equal_data(&ours(), &theirs()).await?;
        forced(&theirs(), &ours()).await?;
        forced(&ours(), &theirs()).await?;
    }
    Ok(())
}

/// A program, and whether its flags for checks have the older names (`--experimental-…`).
struct Program {
    path: PathBuf,
    experimental: bool,
}

impl Program {
    fn checks(&self) -> Vec<String> {
        let prefix = if self.experimental { "experimental-" } else { "" };
        vec![format!("--{prefix}corrupt-check-time=1s")]
    }
}

/// A cluster of these programs, whose members check their data.
async fn found(programs: &[&Program]) -> Result<Vec<Node>> {
    let mut ports = Vec::new();
    for _ in programs {
        let peer = ports::free()?;
        ports.push(Ports { client: ports::free()?, peer, advertised: peer });
    }
    let url = |(at, it): (usize, &Ports)| format!("m{at}=http://127.0.0.1:{}", it.advertised);
    let all: Vec<String> = ports.iter().enumerate().map(url).collect();
    let mut nodes = Vec::new();
    for (at, (program, ports)) in programs.iter().zip(ports).enumerate() {
        let mut flags = vec!["--initial-cluster".to_owned(), all.join(",")];
        flags.extend(program.checks());
        nodes.push(Node::planned(&program.path, &format!("m{at}"), ports, flags)?);
    }
    for node in &mut nodes {
        node.start()?;
    }
    for node in &mut nodes {
        node.wait_until_it_answers().await?;
    }
    leader(&nodes).await?;
    for count in 0..KEYS {
        put(&nodes[0], &format!("k{count}")).await?;
    }
    // This put makes every member's log record that the entries before it are committed. With
    // `--force-new-cluster`, Go's etcd drops entries that its log does not record as committed.
    put(&nodes[0], "z").await?;
    Ok(nodes)
}

async fn put(node: &Node, key: &str) -> Result<i64> {
    let put = PutRequest {
        key: key.to_owned().into(),
        value: format!("value of {key}").into(),
        ..PutRequest::default()
    };
    let answer = node.kv()?.put(put).await?.into_inner();
    Ok(answer.header.context("no header")?.revision)
}

/// Waits until the member's log has a text.
async fn logged(node: &Node, text: &str) -> Result<()> {
    let look = || async { if node.has_logged(text) { Ok(()) } else { bail!("not logged") } };
    let waited = until_done("not logged", look).await;
    waited.with_context(|| format!("{text:?} of {}; its log:\n{}", node.name, node.last_lines()))
}

/// Changes one value in the database of a stopped member.
fn alter(data_dir: &Path) -> Result<()> {
    let options =
        Options { new_page_size: 4096, cache: Arc::new(PageCache::new(1 << 20)), read_only: false };
    let mut db = Db::open(&RealDisk, &data_dir.join("member/snap/db"), options)?;
    let view = db.view();
    let first = view.cursor(b"key", false).next()?.context("no keys")?;
    drop(view);
    let mut stored = KeyValue::decode(first.1)?;
    stored.value = "altered".into();
    let mut tx = db.begin();
    tx.put(b"key", first.0, stored.encode_to_vec().into())?;
    tx.commit()?;
    Ok(())
}

async fn altered_data(ours: &Program) -> Result<()> {
    let mut nodes = found(&[ours; 3]).await?;
    let at_leader = leader(&nodes).await?;
    let at = (at_leader + 1) % 3;
    logged(&nodes[at_leader], "\"number-of-peers-checked\":2").await?;
    ensure!(nodes[0].status().await?.errors.is_empty(), "equal data raises no alarm");
    // SIGTERM, since with kill -9 the keys might not be committed to the database yet.
    nodes[at].stop().await?;
    alter(&nodes[at].data_dir())?;
    nodes[at].start()?;
    nodes[at].wait_until_it_answers().await?;
    let bad = nodes[at].id;
    let alarm = || async {
        let errors = nodes[0].status().await?.errors;
        let wanted = format!("memberID:{bad} alarm:CORRUPT");
        if errors.contains(&wanted) { Ok(()) } else { bail!("no alarm: {errors:?}") }
    };
    until_done("no alarm", alarm).await?;
    for node in &nodes {
        let error = put(node, "more").await.err().context("a corrupt cluster takes a put")?;
        ensure!(format!("{error:#}").contains("etcdserver: corrupt cluster"), "{error:#}");
    }
    let found = "same compact revision then hashes must match";
    ensure!(nodes.iter().any(|node| node.has_logged(found)), "the leader says what it found");
    nodes[at].kill()?;
    let checks = vec!["--feature-gates=InitialCorruptCheck=true".to_owned()];
    nodes[at].becomes(&ours.path, checks.clone());
    nodes[at].start()?;
    let status = nodes[at].ended().await?;
    ensure!(!status.success(), "a member with altered data starts");
    logged(&nodes[at], "found data inconsistency with peers").await?;
    let good = 3 - at - at_leader;
    nodes[good].kill()?;
    nodes[good].becomes(&ours.path, checks);
    nodes[good].start()?;
    nodes[good].wait_until_it_answers().await?;
    logged(&nodes[good], "initial corruption checking passed; no corruption").await?;
    println!("altered data: found, blamed, and refused at a start");
    Ok(())
}

/// Checks that ours and theirs have equal data, for each leader.
async fn equal_data(ours: &Program, theirs: &Program) -> Result<()> {
    let nodes = found(&[ours, theirs, ours]).await?;
    for at in [0, 1] {
        let leads = leader(&nodes).await?;
        if leads != at {
            nodes[leads].move_leader(nodes[at].id).await?;
            leader(&nodes).await?;
        }
        let text = if at == 0 {
            "\"number-of-peers-checked\":2"
        } else {
            "finished peer corruption check"
        };
        logged(&nodes[at], text).await?;
    }
    for node in &nodes {
        let errors = node.status().await?.errors;
        ensure!(errors.is_empty(), "{}: {errors:?}", node.name);
    }
    put(&nodes[0], "more").await?;
    println!("ours and theirs are equal to both");
    Ok(())
}

/// Waits until all members have this storage version.
async fn stored_version(nodes: &[Node], version: &str) -> Result<()> {
    for node in nodes {
        let look = || async {
            let stored = node.status().await?.storage_version;
            if stored == version { Ok(()) } else { bail!("another version: {stored:?}") }
        };
        until_done("another version", look).await?;
    }
    Ok(())
}

async fn downgrades(ours: &Program, theirs: Option<&Path>) -> Result<()> {
    let mut nodes = found(&[ours; 3]).await?;
    stored_version(&nodes, "3.7.0").await?;
    use DowngradeAction::{Cancel, Enable, Validate};
    for (action, version, text) in [
        (Validate, "x", "etcdserver: wrong downgrade target version format"),
        (Validate, "3.7", "etcdserver: invalid downgrade target version"),
        (Enable, "3.3.0", "etcdserver: invalid downgrade target version"),
        (Enable, "4.0", "etcdserver: invalid downgrade target version"),
    ] {
        let error = nodes[0].downgrade(action, version).await.err().context("not refused")?;
        ensure!(format!("{error:#}").contains(text), "{version}: {error:#}");
    }
    ensure!(nodes[0].downgrade(Cancel, "").await? == "3.7", "nothing to cancel is no error");
    ensure!(nodes[1].downgrade(Validate, "3.6").await? == "3.7", "to be validated");
    ensure!(nodes[1].downgrade(Enable, "3.6.0").await? == "3.7", "to begin");
    let error = nodes[2].downgrade(Enable, "3.5").await.err().context("begun twice")?;
    ensure!(format!("{error:#}").contains("a downgrade job in progress"), "{error:#}");
    stored_version(&nodes, "3.6.0").await?;
    let info = nodes[2].status().await?.downgrade_info.context("no downgrade")?;
    ensure!(info.enabled && info.target_version == "3.6.0", "{info:?}");
    nodes[2].downgrade(Cancel, "").await?;
    // All members can serve 3.7.
    stored_version(&nodes, "3.7.0").await?;
    nodes[0].downgrade(Enable, "3.5").await?;
    stored_version(&nodes, "3.5.0").await?;
    put(&nodes[0], "after the downgrade").await?;
    println!("downgraded to 3.6, back, and to 3.5");
    let Some(theirs) = theirs else { return Ok(()) };
    for node in &mut nodes {
        node.kill()?;
        node.becomes(theirs, Vec::new());
    }
    for node in &mut nodes {
        node.start()?;
    }
    for node in &mut nodes {
        node.wait_until_it_answers().await?;
    }
    let mut kv = nodes[1].kv()?;
    let answer = kv.range(RangeRequest { key: "k7".into(), ..Default::default() }).await?;
    ensure!(answer.into_inner().count == 1, "its keys are there");
    put(&nodes[2], "by the older server").await?;
    println!("the older server goes on with what the downgrade has left");
    Ok(())
}

/// Starts one of three members alone with another program (`--force-new-cluster`).
async fn forced(before: &Program, after: &Program) -> Result<()> {
    let mut nodes = if before.path == after.path && !before.experimental {
        found(&[before; 3]).await?
    } else if after.experimental {
        // The older server needs data of a cluster at its own version.
        found(&[before, before, after]).await?
    } else {
        found(&[before; 3]).await?
    };
    for node in &mut nodes {
        node.kill()?;
    }
    let mut alone = nodes.swap_remove(0);
    for flags in [vec!["--force-new-cluster".to_owned()], Vec::new()] {
        alone.becomes(&after.path, flags);
        alone.start()?;
        alone.wait_until_it_answers().await?;
        let members = alone.members().await?;
        ensure!(members.len() == 1 && members[0].id == alone.id, "{members:?}");
        let all = RangeRequest {
            key: "k".into(),
            range_end: "l".into(),
            count_only: true,
            ..RangeRequest::default()
        };
        let count = alone.kv()?.range(all).await?.into_inner().count;
        ensure!(usize::try_from(count)? == KEYS, "{count} keys");
        put(&alone, "alone").await?;
        alone.kill()?;
    }
    println!("a member goes on alone with all its keys");
    Ok(())
}

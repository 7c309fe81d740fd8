//! Grows a cluster of our servers from one member to five and shrinks it to three, while clients
//! write through each member. Moves the leadership to every member, renews leases through
//! followers, and checks that unsafe changes are refused and that removed members end.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use conformance::cluster::{Node, leader, until_done};
use conformance::load::Load;
use proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest,
};
use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio_stream::StreamExt as _;

/// The error while a change has to wait: a new member counts as connected only after five seconds.
const UNHEALTHY: &str = "etcdserver: unhealthy cluster";
const NOT_IN_SYNC: &str =
    "etcdserver: can only promote a learner member which is in sync with leader";
const REMOVED: &str = "the member has been permanently removed from the cluster";
/// The TTL of a lease that expires soon unless it is renewed.
const SHORT_TTL_S: i64 = 2;

/// Changes the members of a cluster of our servers while it serves.
#[derive(Debug, Parser)]
struct Args {
    /// Our server.
    #[arg(long)]
    ours: PathBuf,
    /// How often everything is done, each time with a new cluster.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
}

/// The cluster under load.
struct Test {
    nodes: Vec<Node>,
    load: Load,
    began: Instant,
    /// The last term seen. It grows with each election.
    term: Cell<u64>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    for round in 1..=args.rounds {
        println!("round {round} of {}", args.rounds);
        let first = Node::found(&args.ours, "m1").await?;
        let mut load = Load::default();
        load.begin(&first)?;
        let (began, term) = (Instant::now(), Cell::new(first.status().await?.raft_term));
        let mut test = Test { nodes: vec![first], load, began, term };
        if let Err(error) = test.run().await {
            for node in &test.nodes {
                println!("--- {}:\n{}", node.name, node.last_lines());
            }
            return Err(error);
        }
    }
    Ok(())
}

impl Test {
    async fn run(&mut self) -> Result<()> {
        self.grow_to_three().await?;
        self.leases().await?;
        self.learner().await?;
        self.fifth_by_the_leader().await?;
        self.move_the_leadership().await?;
        self.update().await?;
        self.shrink_to_three().await?;
        self.refuse_what_would_lose_the_quorum().await?;
        self.check_all().await
    }

    fn say(&self, what: &str) {
        let after = self.began.elapsed().as_secs_f64();
        println!("  {after:5.1} s: {what}; {} writes", self.load.acknowledged());
    }

    /// Checks the failures of the writers: at a change of the leader, each writer may lose the
    /// request in flight. No other request may fail.
    async fn settle(&self, what: &str) -> Result<()> {
        let failures = self.load.settle().await?;
        let before = self.term.get();
        for node in &self.nodes {
            self.term.set(self.term.get().max(node.status().await?.raft_term));
        }
        let elections = usize::try_from(self.term.get() - before)?;
        ensure!(
            failures.len() <= elections * (self.nodes.len() + 1),
            "{what}: more failed than was under way in {elections} elections: {failures:#?}"
        );
        let failed = failures.len();
        self.say(&format!("{what}; {elections} elections, {failed} requests failed"));
        Ok(())
    }

    async fn follower(&self) -> Result<usize> {
        let leader = leader(&self.nodes).await?;
        Ok((leader + 1) % self.nodes.len())
    }

    /// Adds a member by a request to member `through`, and starts it.
    async fn join(&mut self, through: usize, name: &str) -> Result<()> {
        let by = &self.nodes[through];
        let mut node = until_done(UNHEALTHY, || by.add(name, false)).await?;
        node.start()?;
        node.wait_until_it_answers().await?;
        self.load.begin(&node)?;
        self.nodes.push(node);
        Ok(())
    }

    async fn grow_to_three(&mut self) -> Result<()> {
        self.join(0, "m2").await?;
        self.settle("a second member").await?;
        let early = self.nodes[0].add("m3", false).await.map(|node| node.id);
        let text = early.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(text.contains(UNHEALTHY), "a third member right after the second: {text:?}");
        self.join(1, "m3").await?;
        self.settle("a third member").await
    }

    /// Adds and promotes a learner by requests to followers.
    async fn learner(&mut self) -> Result<()> {
        let through = self.follower().await?;
        let by = &self.nodes[through];
        let mut node = until_done(UNHEALTHY, || by.add("m4", true)).await?;
        let early = by.promote(node.id).await.err().context("promoted before it was started")?;
        ensure!(format!("{early:#}").contains(NOT_IN_SYNC), "{early:#}");
        node.start()?;
        node.wait_until_it_answers().await?;
        ensure!(node.status().await?.is_learner, "it is a learner");
        let status = node.kv()?.put(put("k", 0)).await.err().context("a learner takes puts")?;
        ensure!(status.message() == "etcdserver: rpc not supported for learner", "{status}");
        let serializable =
            RangeRequest { key: "k".into(), serializable: true, ..Default::default() };
        node.kv()?.range(serializable).await?;
        let leader_id = self.nodes[leader(&self.nodes).await?].id;
        let at_leader = self.nodes.iter().find(|node| node.id == leader_id).context("no leader")?;
        let error = at_leader.move_leader(node.id).await.err().context("a learner leads")?;
        ensure!(format!("{error:#}").contains("etcdserver: bad leader transferee"), "{error:#}");
        until_done(NOT_IN_SYNC, || by.promote(node.id)).await?;
        let again = by.promote(node.id).await.err().context("promoted twice")?;
        let text = format!("{again:#}");
        ensure!(text.contains("etcdserver: can only promote a learner member"), "{text}");
        self.load.begin(&node)?;
        self.nodes.push(node);
        self.settle("a learner that was promoted").await
    }

    async fn fifth_by_the_leader(&mut self) -> Result<()> {
        let leader = leader(&self.nodes).await?;
        self.join(leader, "m5").await?;
        self.settle("a fifth member").await
    }

    async fn leases(&self) -> Result<()> {
        let through = self.follower().await?;
        let mut lease = self.nodes[through].lease()?;
        for (id, ttl) in [(7, 600), (8, SHORT_TTL_S)] {
            lease.lease_grant(LeaseGrantRequest { id, ttl }).await?;
            self.nodes[through].kv()?.put(put(&format!("leased{id}"), id)).await?;
        }
        for node in &self.nodes {
            ensure!(renew(node, 7).await? == 600, "renewed by each member");
            ensure!(renew(node, 404).await? == 0, "no such lease");
            let request = LeaseTimeToLiveRequest { id: 7, keys: true };
            let lives = node.lease()?.lease_time_to_live(request).await?.into_inner();
            ensure!(lives.ttl > 500 && lives.keys == ["leased7"], "{lives:?}");
            let request = LeaseTimeToLiveRequest { id: 404, keys: true };
            let lives = node.lease()?.lease_time_to_live(request).await?.into_inner();
            ensure!((lives.ttl, lives.granted_ttl) == (-1, 0), "{lives:?}");
        }
        let until = Instant::now() + Duration::from_secs(3 * SHORT_TTL_S.unsigned_abs());
        while Instant::now() < until {
            ensure!(renew(&self.nodes[through], 8).await? == SHORT_TTL_S, "lives while renewed");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let node = &self.nodes[through];
        let gone = || async {
            let range = RangeRequest { key: "leased8".into(), ..RangeRequest::default() };
            let left = node.kv()?.range(range).await?.into_inner().count;
            if left == 0 { Ok(()) } else { bail!("not expired") }
        };
        until_done("not expired", gone).await?;
        self.settle("leases, renewed by each member").await
    }

    /// Makes each member the leader once, by a request to the leader before it.
    async fn move_the_leadership(&self) -> Result<()> {
        let first = leader(&self.nodes).await?;
        let count = self.nodes.len();
        for step in 0..count {
            let (from, to) = ((first + step) % count, (first + step + 1) % count);
            let (from, to) = (&self.nodes[from], &self.nodes[to]);
            let error = to.move_leader(from.id).await.err().context("a follower moves it")?;
            ensure!(format!("{error:#}").contains("etcdserver: not leader"), "{error:#}");
            from.move_leader(to.id).await?;
            ensure!(from.status().await?.leader == to.id, "it leads when the answer comes");
            let agreed = leader(&self.nodes).await?;
            ensure!(self.nodes[agreed].id == to.id, "all know it");
        }
        self.settle("the leadership moved to each member").await
    }

    /// Gives a member a second peer URL, and takes it back.
    async fn update(&self) -> Result<()> {
        let (last, through) = (self.nodes.last().context("no member")?, self.follower().await?);
        let by = &self.nodes[through];
        for urls in [vec![last.peer_url(), "http://127.0.0.1:1".to_owned()], vec![last.peer_url()]]
        {
            by.update(last.id, urls.clone()).await?;
            for node in &self.nodes {
                let members = node.members().await?;
                let found = members.iter().find(|member| member.id == last.id);
                let found = found.context("the member is gone")?;
                ensure!(found.peer_ur_ls == urls, "at {}: {found:?}", node.name);
            }
        }
        self.settle("peer URLs changed").await
    }

    /// Removes a follower through another one, then the leader through itself.
    async fn shrink_to_three(&mut self) -> Result<()> {
        let at = self.follower().await?;
        let mut gone = self.nodes.remove(at);
        self.load.end(&gone).await?;
        let through = self.follower().await?;
        // A member that has just joined does not count as connected yet.
        until_done(UNHEALTHY, || self.nodes[through].remove(gone.id)).await?;
        let status = gone.ended().await?;
        ensure!(status.success() && gone.has_logged(REMOVED), "{status}: {}", gone.last_lines());
        self.settle("a removed follower has ended").await?;
        let leader = leader(&self.nodes).await?;
        let mut former = self.nodes.remove(leader);
        self.load.end(&former).await?;
        until_done(UNHEALTHY, || former.remove(former.id)).await?;
        let status = former.ended().await?;
        ensure!(
            status.success() && former.has_logged(REMOVED),
            "{status}: {}",
            former.last_lines()
        );
        self.settle("the removed leader has ended").await?;
        // If it is started again on its old data, the others refuse it.
        gone.start()?;
        let status = gone.ended().await?;
        self.settle(&format!("the removed follower was started again, and has ended: {status}"))
            .await
    }

    async fn refuse_what_would_lose_the_quorum(&mut self) -> Result<()> {
        let at = self.follower().await?;
        let mut dead = self.nodes.remove(at);
        self.load.end(&dead).await?;
        dead.kill()?;
        let leader = leader(&self.nodes).await?;
        let (by, other) = (&self.nodes[leader], &self.nodes[1 - leader]);
        // It takes a moment until the broken connection to the dead member is noticed.
        let refused = || async {
            match by.remove(other.id).await {
                Err(error) => Ok(error),
                Ok(()) => bail!("a member was removed that the quorum needs"),
            }
        };
        let error = refused().await?;
        ensure!(format!("{error:#}").contains(UNHEALTHY), "{error:#}");
        dead.start()?;
        dead.wait_until_it_answers().await?;
        self.load.begin(&dead)?;
        self.nodes.push(dead);
        self.settle("the removal of a needed member was refused").await
    }

    /// Checks that all members have all acknowledged writes, the same keys, and the same member
    /// list.
    async fn check_all(&mut self) -> Result<()> {
        for at in 0..self.nodes.len() {
            let node = &self.nodes[at];
            self.load.end(node).await?;
        }
        let revision = self.nodes[0].kv()?.put(put("end", 0)).await?.into_inner();
        let revision = revision.header.context("no header")?.revision;
        let (mut hashes, mut members) = (Vec::new(), Vec::new());
        for node in &self.nodes {
            self.load.check(node).await?;
            hashes.push(node.hash(revision).await?);
            members.push(node.members().await?);
        }
        ensure!(hashes.iter().all(|hash| *hash == hashes[0]), "hashes differ: {hashes:?}");
        ensure!(members.iter().all(|list| *list == members[0]), "members differ: {members:?}");
        ensure!(members[0].len() == 3 && self.nodes.len() == 3, "three members: {members:?}");
        self.say("all members are equal and have every acknowledged write");
        Ok(())
    }
}

fn put(key: &str, lease: i64) -> PutRequest {
    PutRequest { key: key.to_owned().into(), lease, ..PutRequest::default() }
}

async fn renew(node: &Node, id: i64) -> Result<i64> {
    let ask = tokio_stream::once(LeaseKeepAliveRequest { id });
    let answer = node.lease()?.lease_keep_alive(ask).await?.into_inner().next().await;
    Ok(answer.context("no answer")??.ttl)
}

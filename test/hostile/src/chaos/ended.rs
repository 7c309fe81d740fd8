//! The end of a run: clients and watchers stop, and their results are checked.

use super::checks;
use super::group::{Group, MEMBERS};
use super::load::Load;
use super::watchers::Watchers;
use anyhow::{Context as _, Result, ensure};
use sim::kv::calls::{KvCall, KvHistory};
use std::fmt::Write as _;
use std::time::Instant;

/// The client number of the last reads, through the first member. It is above those of all other
/// clients.
const LAST_READER: u32 = 1_000;

/// A cluster whose faults are over.
#[derive(Debug)]
pub(super) struct Ended<'a> {
    pub(super) group: &'a Group,
    pub(super) load: Load,
    pub(super) watchers: Watchers,
    /// The term at the beginning.
    pub(super) first_term: u64,
}

impl Ended<'_> {
    /// Ends the clients, and adds their calls to the history without checking it.
    pub(super) async fn stop(mut self, history: &mut KvHistory) -> Result<()> {
        self.load.end().await?;
        history.calls = self.load.record.take();
        Ok(())
    }

    /// Ends clients and watchers, and checks everything. Returns the lines of a report.
    pub(super) async fn check(mut self, history: &mut KvHistory) -> Result<String> {
        let group = self.group;
        self.load.end().await?;
        history.calls = self.load.record.take();
        for (at, node) in group.nodes.iter().enumerate() {
            let client = LAST_READER + u32::try_from(at)?;
            let call = KvCall::one(checks::everything());
            let answer = self.load.record.call(client, &node.channel()?, call).await;
            answer.with_context(|| format!("m{at} does not answer the last read"))?;
        }
        history.calls.extend(self.load.record.take());
        let last = group.probes.write(0).await?;
        let told = self.watchers.end(last).await?;
        checks::complete(&told, last)?;
        let writes = checks::nothing_lost(group, history, &told[0].events)?;
        let hash = checks::equal(group, &told, last).await?;
        group.check_logs()?;
        history.others = checks::others(group, &told[0].events);
        let open = history.calls.iter().filter(|timed| timed.ended.is_none()).count();
        checks::settle(history, &told[0].events);
        let unsettled = history.calls.iter().filter(|it| it.call.answer.is_none()).count();
        let search = Instant::now();
        let undecided = checks::linearizable(history)?;
        let searched = search.elapsed();
        let mut report = String::new();
        let resumed: Vec<u64> = told.iter().map(|told| told.begun).collect();
        let elections = group.nodes[0].status().await?.raft_term - self.first_term;
        writeln!(report, "terms of leaders: {elections} since the first")?;
        writeln!(report, "calls: {}, of these without an answer {open}", history.calls.len())?;
        writeln!(report, "errors: {:?}", self.load.record.errors())?;
        writeln!(report, "acknowledged writes: {writes}, none lost")?;
        let verdict = if undecided == 0 {
            "linearizable".to_owned()
        } else {
            format!("NOT DECIDED: {undecided} searches for an order were given up; revisions fit")
        };
        writeln!(
            report,
            "history: {verdict}; {unsettled} calls not settled by events; searched for {:.1} s",
            searched.as_secs_f64()
        )?;
        writeln!(
            report,
            "watchers: {} events each, complete and in order; begun {resumed:?} times",
            told[0].events.len()
        )?;
        writeln!(report, "HashKV at revision {last}: {hash:08x} at all {MEMBERS} members")?;
        ensure!(undecided == 0, "it is not known whether the history is linearizable:\n{report}");
        Ok(report)
    }
}

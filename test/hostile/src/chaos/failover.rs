//! The time from the leader's `kill -9` to the next acknowledged write.

use super::faults::spread;
use super::group::{Group, MEMBERS, Plan};
use anyhow::Result;
use std::time::Duration;

/// The pause before each kill, in which leader and connections settle.
const SETTLE: Duration = Duration::from_secs(2);

/// The times of each program.
#[derive(Debug, Default)]
pub struct Times {
    times: Vec<Duration>,
}

impl Times {
    /// The median in milliseconds.
    #[must_use]
    pub fn median_ms(&self) -> u128 {
        let mut times: Vec<u128> = self.times.iter().map(Duration::as_millis).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or(0)
    }

    /// Minimum, median and maximum.
    #[must_use]
    pub fn text(&self) -> String {
        spread(&self.times)
    }
}

/// Kills the leader `kills` times.
///
/// # Errors
/// When the cluster does not serve again.
pub async fn measure(plan: &Plan, kills: u32) -> Result<Times> {
    let mut group = Group::start(plan).await?;
    let mut times = Times::default();
    for _ in 0..kills {
        tokio::time::sleep(SETTLE).await;
        let leader = group.agreed_leader().await?;
        let others: Vec<usize> = (0..MEMBERS).filter(|at| *at != leader).collect();
        group.kill(leader)?;
        times.times.push(group.probes.next_acknowledged(&others).await?);
        group.start_member(leader)?;
        group.served().await?;
    }
    group.check_logs()?;
    group.end().await;
    Ok(times)
}

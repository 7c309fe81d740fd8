//! The list of faults. Each is a kind of hostile client, with a bound for the server's memory.

mod floods;
mod large;
mod silence;

use crate::attack::{Attack, MIB};
use crate::light::{LightClient, LightResult};
use crate::memory::{PeakMemory, resident};
use crate::target::Target;
use anyhow::{Context, Result, ensure};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a flood lasts in the short and in the long form.
const SHORT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(30);
/// How long the server may take to give memory back when the fault is over.
const GIVE_BACK: Duration = Duration::from_secs(10);
/// Memory that the server may keep after a fault, in addition to its memory before.
const KEPT_MAX: u64 = 32 * MIB;

/// A kind of hostile client.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The name for `--only`.
    pub name: &'static str,
    /// A description of the clients.
    pub about: &'static str,
    /// Memory in bytes that the server may use in addition to its memory before.
    pub memory_max: u64,
    /// The server's limit of open files, if the fault needs a small one.
    files: Option<u64>,
    run: fn(&mut Attack<'_>) -> Result<u64>,
}

/// All faults, in the order in which they run.
pub const FAULTS: &[Fault] = &[
    Fault {
        name: "watch-flood",
        about: "creates watches on a connection whose window is 0",
        memory_max: 64 * MIB,
        files: None,
        run: floods::watches,
    },
    Fault {
        name: "large-range",
        about: "reads nothing of a large range while its keys are overwritten and compacted",
        memory_max: 256 * MIB,
        files: None,
        run: large::range,
    },
    Fault {
        name: "idle",
        about: "290 silent, half asking and idle connections on each port",
        memory_max: 64 * MIB,
        files: None,
        run: silence::idle,
    },
    Fault {
        name: "idle-files",
        about: "more idle connections than the server may have open files",
        memory_max: 64 * MIB,
        files: Some(silence::FILES),
        run: silence::idle,
    },
    Fault {
        name: "half-preface",
        about: "200 connections that send a part of the preface and no more",
        memory_max: 64 * MIB,
        files: None,
        run: silence::half_preface,
    },
    Fault {
        name: "slow-heads",
        about: "200 connections that send the head of a request byte by byte",
        memory_max: 64 * MIB,
        files: None,
        run: silence::slow_heads,
    },
    Fault {
        name: "large-heads",
        about: "60 kB of headers beside other calls on the same connection",
        memory_max: 64 * MIB,
        files: None,
        run: large::heads,
    },
    Fault {
        name: "connect-flood",
        about: "connects and disconnects, in order and by reset",
        memory_max: 64 * MIB,
        files: None,
        run: floods::connects,
    },
    Fault {
        name: "reset-flood",
        about: "resets each stream as soon as it has opened it",
        memory_max: 64 * MIB,
        files: None,
        run: floods::resets,
    },
    Fault {
        name: "garbage",
        about: "random bytes, and frames with random bytes changed",
        memory_max: 64 * MIB,
        files: None,
        run: floods::garbage,
    },
];

/// The effect of one fault on the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Requests, connections or messages of the hostile clients.
    pub requests: u64,
    /// Resident memory in bytes: before, the highest, and after.
    pub memory: [u64; 3],
    /// The result of the light client.
    pub calls: LightResult,
    /// The result of the probes.
    pub probes: LightResult,
}

impl Fault {
    /// Starts a server and runs the fault against it.
    ///
    /// # Errors
    /// When the server fails a check. `outcome` has the measurements until then.
    pub async fn run(
        &self,
        program: &Path,
        seed: u64,
        long: bool,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let target = Target::start(program, self.files).await?;
        tokio::task::block_in_place(|| self.attack(&target, seed, long, outcome))
    }

    fn attack(&self, target: &Target, seed: u64, long: bool, outcome: &mut Outcome) -> Result<()> {
        let pid = target.pid();
        let light = LightClient::start(target)?;
        std::thread::sleep(Duration::from_millis(300));
        outcome.memory[0] = resident(pid)?;
        let peak = PeakMemory::watch(pid);
        let time = if long { LONG } else { SHORT };
        let rng = StdRng::seed_from_u64(seed);
        let attacked = (self.run)(&mut Attack { target, rng, time, long });
        outcome.memory[1] = peak.end();
        outcome.memory[2] = settle(pid, outcome.memory[0] + KEPT_MAX)?;
        let (calls, probes) = light.end()?;
        (outcome.calls, outcome.probes) = (calls, probes);
        outcome.requests = attacked.context("the hostile client")?;
        target.check_log()?;
        let [before, peak, after] = outcome.memory;
        let taken = peak.saturating_sub(before) / MIB;
        let bound = self.memory_max / MIB;
        ensure!(taken <= bound, "the server took {taken} MiB, the bound is {bound} MiB");
        let kept = after.saturating_sub(before) / MIB;
        let bound = KEPT_MAX / MIB;
        ensure!(kept <= bound, "the server kept {kept} MiB, the bound is {bound} MiB");
        Ok(())
    }
}

/// Waits until the process has at most `wanted` bytes of memory, or the time for it is over.
/// Returns its memory.
fn settle(pid: u32, wanted: u64) -> Result<u64> {
    let begun = Instant::now();
    loop {
        let bytes = resident(pid)?;
        if bytes <= wanted || begun.elapsed() > GIVE_BACK {
            return Ok(bytes);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = FAULTS.iter().map(|fault| fault.name).collect();
        assert_eq!(names.len(), FAULTS.len());
    }
}

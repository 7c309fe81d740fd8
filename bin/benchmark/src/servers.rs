//! The CPU and memory of server processes on this machine, from `/proc`.

use crate::failure::CommandResult;
use cli::go;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The time between two looks at the memory.
const PAUSE: Duration = Duration::from_millis(100);

/// The processes that are observed.
pub(crate) struct Servers {
    start: Instant,
    processes: Vec<Arc<Process>>,
}

/// A process since the start.
struct Process {
    pid: u32,
    /// The name of its program.
    name: String,
    /// The CPU that it had used at the start.
    before: Duration,
    /// The most memory that was seen.
    bytes_max: AtomicU64,
}

impl Servers {
    /// Starts to observe the processes with these ids.
    ///
    /// # Errors
    /// When one is not a number, or there is no such process.
    pub(crate) fn find(pids: &[String]) -> CommandResult<Servers> {
        let mut processes = Vec::new();
        for text in pids {
            let pid = text.parse().map_err(|_| format!("--pid {text}: not a process id"))?;
            let usage =
                usage(pid).ok_or_else(|| format!("--pid {pid}: there is no such process"))?;
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            processes.push(Arc::new(Process {
                pid,
                name: name.trim().to_string(),
                before: usage.cpu,
                bytes_max: AtomicU64::new(usage.bytes),
            }));
        }
        for process in &processes {
            tokio::spawn(observe(Arc::clone(process)));
        }
        Ok(Servers { start: Instant::now(), processes })
    }

    /// What the processes have used since the start; empty if there are none.
    pub(crate) fn report(&self) -> String {
        let mut text = String::new();
        if !self.processes.is_empty() {
            text.push_str("\nServers:\n");
        }
        for process in &self.processes {
            _ = write!(text, "  {} (pid {}):\t", process.name, process.pid);
            _ = match usage(process.pid) {
                Some(usage) => writeln!(text, "{}", process.shown(usage, self.start.elapsed())),
                None => writeln!(text, "has ended."),
            };
        }
        text
    }
}

impl Process {
    fn shown(&self, usage: Usage, time: Duration) -> String {
        let cpu = usage.cpu.saturating_sub(self.before).as_secs_f64();
        let share = cpu / time.as_secs_f64() * 100.0;
        let most = self.bytes_max.fetch_max(usage.bytes, Ordering::Relaxed).max(usage.bytes);
        format!(
            "CPU {cpu:.2} secs ({share:.0} % of one core), memory {}, at most {}.",
            go::bytes(usage.bytes),
            go::bytes(most)
        )
    }
}

async fn observe(process: Arc<Process>) {
    while let Some(usage) = usage(process.pid) {
        process.bytes_max.fetch_max(usage.bytes, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
}

/// What a process has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Usage {
    /// In user mode and in the kernel.
    cpu: Duration,
    /// The resident memory.
    bytes: u64,
}

fn usage(pid: u32) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let page = u64::try_from(rustix::param::page_size()).unwrap_or_default();
    parse(&stat, rustix::param::clock_ticks_per_second(), page)
}

/// Reads the line of `/proc/PID/stat`. See proc_pid_stat(5): the fields after the name, which is in
/// brackets and may contain anything, are separated by spaces.
fn parse(stat: &str, ticks_per_second: u64, page_bytes: u64) -> Option<Usage> {
    /// The places of the fields, counted from the one after the name.
    const USER: usize = 11;
    const KERNEL: usize = 12;
    const PAGES: usize = 21;
    let (_, behind) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = behind.split_whitespace().collect();
    let field = |place: usize| fields.get(place)?.parse::<u64>().ok();
    let ticks = field(USER)? + field(KERNEL)?;
    let cpu = Duration::from_millis(ticks * 1000 / ticks_per_second.max(1));
    Some(Usage { cpu, bytes: field(PAGES)? * page_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_process_is_read() {
        let line = "77 (a) b) S 1 77 77 0 -1 4194560 3105 0 1 0 150 50 0 0 20 0 9 0 100 225280000 \
                    1234 18446744073709551615 1 1";
        let expected = Usage { cpu: Duration::from_secs(2), bytes: 1234 * 4096 };
        assert_eq!(parse(line, 100, 4096), Some(expected));
        assert_eq!(parse("77 (a) S 1", 100, 4096), None);
    }

    #[test]
    fn the_own_process_uses_memory() {
        assert!(usage(std::process::id()).unwrap().bytes > 0);
    }
}

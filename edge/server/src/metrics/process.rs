//! Metrics of this process, read from `/proc` when `/metrics` is requested.
//!
//! Of the `go_*` metrics, only those are shown that make sense without a Go runtime.

use prometheus::{Counter, Gauge, IntCounter, IntGauge, IntGaugeVec, Opts, Registry};
use std::fs;

/// The clock ticks per second (`USER_HZ`) of `/proc` on Linux.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: i64 = 4096;

/// The handles.
#[derive(Debug)]
pub(super) struct Process {
    cpu_seconds: Counter,
    start_seconds: Gauge,
    resident: IntGauge,
    virtual_bytes: IntGauge,
    virtual_max: Gauge,
    open_fds: IntGauge,
    max_fds: Gauge,
    os_used: IntGauge,
    os_limit: Gauge,
    threads: IntGauge,
    network: [IntCounter; 2],
}

impl Process {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
        };
        let int = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            prometheus::Result::Ok(counter)
        };
        let cpu_seconds = Counter::new("process_cpu_seconds_total", "Processor time, in seconds.")?;
        registry.register(Box::new(cpu_seconds.clone()))?;
        let process = Self {
            cpu_seconds,
            start_seconds: gauge("process_start_time_seconds", "Start, in Unix seconds.")?,
            resident: int("process_resident_memory_bytes", "Resident memory.")?,
            virtual_bytes: int("process_virtual_memory_bytes", "Virtual memory.")?,
            virtual_max: gauge("process_virtual_memory_max_bytes", "Limit of virtual memory.")?,
            open_fds: int("process_open_fds", "Open file descriptors.")?,
            max_fds: gauge("process_max_fds", "Limit of file descriptors.")?,
            os_used: int("os_fd_used", "Open file descriptors.")?,
            os_limit: gauge("os_fd_limit", "Limit of file descriptors.")?,
            threads: int("go_threads", "Threads of the operating system.")?,
            network: [
                counter(
                    "process_network_receive_bytes_total",
                    "Bytes received in this namespace.",
                )?,
                counter("process_network_transmit_bytes_total", "Bytes sent in this namespace.")?,
            ],
        };
        let cores = int("go_sched_gomaxprocs_threads", "Threads that can run at once.")?;
        let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        cores.set(i64::try_from(available).unwrap_or(i64::MAX));
        let info = IntGaugeVec::new(
            Opts::new("go_info", "The version of Go, which this server does not use."),
            &["version"],
        )?;
        registry.register(Box::new(info.clone()))?;
        info.with_label_values(&["none"]).set(1);
        Ok(process)
    }

    /// Reads `/proc`. A metric that cannot be read keeps its last value.
    pub(super) fn refresh(&self) {
        if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
            self.refresh_stat(&stat);
        }
        if let Ok(fds) = fs::read_dir("/proc/self/fd") {
            // Reading the directory uses one file descriptor itself.
            let open = i64::try_from(fds.count()).unwrap_or(i64::MAX) - 1;
            self.open_fds.set(open);
            self.os_used.set(open);
        }
        if let Ok(limits) = fs::read_to_string("/proc/self/limits") {
            self.refresh_limits(&limits);
        }
        if let Ok(net) = fs::read_to_string("/proc/self/net/netstat") {
            for (counter, name) in self.network.iter().zip(["InOctets", "OutOctets"]) {
                if let Some(bytes) = netstat(&net, name) {
                    counter.inc_by(bytes.saturating_sub(counter.get()));
                }
            }
        }
    }

    fn refresh_stat(&self, stat: &str) {
        // The name in parentheses may contain any characters, so the fields after it are parsed,
        // from the third on.
        let Some((_, rest)) = stat.rsplit_once(") ") else {
            return;
        };
        let fields: Vec<&str> = rest.split(' ').collect();
        let field = |n: usize| fields.get(n - 3).and_then(|f| f.trim().parse::<i64>().ok());
        #[expect(clippy::cast_precision_loss, reason = "seconds and bytes as Prometheus has them")]
        let seconds = |ticks: i64| ticks as f64 / TICKS_PER_SECOND;
        if let (Some(user), Some(system)) = (field(14), field(15)) {
            let now = seconds(user.saturating_add(system));
            self.cpu_seconds.inc_by((now - self.cpu_seconds.get()).max(0.0));
        }
        if let (Some(started), Some(booted)) = (field(22), boot_seconds()) {
            self.start_seconds.set(booted + seconds(started));
        }
        if let Some(threads) = field(20) {
            self.threads.set(threads);
        }
        if let Some(bytes) = field(23) {
            self.virtual_bytes.set(bytes);
        }
        if let Some(pages) = field(24) {
            self.resident.set(pages.saturating_mul(PAGE_BYTES));
        }
    }

    fn refresh_limits(&self, limits: &str) {
        let soft = |name: &str| {
            let line = limits.lines().find(|l| l.starts_with(name))?;
            let value = line.get(name.len()..)?.split_whitespace().next()?;
            if value == "unlimited" { Some(f64::INFINITY) } else { value.parse::<f64>().ok() }
        };
        if let Some(limit) = soft("Max open files") {
            self.max_fds.set(limit);
            self.os_limit.set(limit);
        }
        if let Some(limit) = soft("Max address space") {
            // Go's collector shows the largest number here when there is no limit.
            self.virtual_max.set(if limit.is_finite() { limit } else { 1.8446744073709552e19 });
        }
    }
}

fn boot_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()
}

/// A value of `IpExt` in the two-line tables of `/proc/net/netstat`.
fn netstat(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|l| l.starts_with("IpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|n| n == name)?;
    values.split(' ').nth(at)?.parse().ok()
}

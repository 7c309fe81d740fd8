//! What all workloads share: the global flags, the clients, and the reports.
//!
//! Source: etcd v3.7.1 tools/benchmark/cmd/{root,util}.go.

use crate::failure::CommandResult;
use crate::output;
use crate::servers::Servers;
use cli::{Flags, Parsed};
use client::{Client, Config, KeyPair, TlsOptions};
use load::{Pace, Panel, Precision, Results};
use proto::etcdserverpb as pb;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tokio::sync::watch;

/// A benchmark that runs.
pub(crate) struct Bench {
    /// The flags of the command.
    pub(crate) flags: Flags,
    /// The arguments.
    pub(crate) args: cli::Words,
    config: Config,
    servers: Servers,
    /// The results for the plot, with their names.
    measured: Vec<(String, Results)>,
}

impl Bench {
    /// Reads the global flags.
    pub(crate) async fn begin(parsed: Parsed) -> CommandResult<Bench> {
        let Parsed { flags, args, .. } = parsed;
        let mut config = config(&flags)?;
        if flags.bool("target-leader") {
            config.endpoints = vec![leader(&config).await?];
        }
        let servers = Servers::find(&flags.list("pid"))?;
        Ok(Bench { flags, args, config, servers, measured: Vec::new() })
    }

    /// A client with a connection of its own.
    pub(crate) async fn connect(&self) -> CommandResult<Client> {
        Ok(Client::connect(self.config.clone()).await?)
    }

    /// A client of the first endpoint alone.
    pub(crate) async fn connect_to_first(&self) -> CommandResult<(Client, String)> {
        let endpoint = self.config.endpoints[0].clone();
        let config = Config { endpoints: vec![endpoint.clone()], ..self.config.clone() };
        Ok((Client::connect(config).await?, endpoint))
    }

    /// The clients; they share the connections.
    pub(crate) async fn clients(&self) -> CommandResult<Vec<Client>> {
        let mut connections = Vec::new();
        for _ in 0..self.at_least("conns", 1)? {
            connections.push(self.connect().await?);
        }
        let clients = usize::try_from(self.at_least("clients", 1)?).unwrap_or(usize::MAX);
        Ok(connections.into_iter().cycle().take(clients).collect())
    }

    /// A number that must not be smaller than this.
    pub(crate) fn at_least(&self, flag: &str, least: u64) -> CommandResult<u64> {
        let number = match flag {
            "conns" | "clients" => self.flags.uint(flag),
            _ => u64::try_from(self.flags.int(flag)).unwrap_or(0),
        };
        if number < least {
            return Err(format!("--{flag} must be at least {least}").into());
        }
        Ok(number)
    }

    /// A length or a number of things; at least 0.
    pub(crate) fn size(&self, flag: &str) -> usize {
        usize::try_from(self.flags.int(flag)).unwrap_or(0)
    }

    /// The requests per second of a flag; 0 is no limit.
    pub(crate) fn rate(&self, flag: &str) -> Option<u32> {
        let rate = self.flags.int(flag);
        u32::try_from(rate).ok().filter(|rate| *rate > 0)
    }

    /// The pace that `--total` and `--rate` give.
    pub(crate) fn pace(&self) -> CommandResult<Pace> {
        let count = Some(self.at_least("total", 0)?);
        Ok(Pace { count, per_second: self.rate("rate"), time: None })
    }

    /// The text of the report of requests that end now.
    pub(crate) fn report(&mut self, name: &str, results: Results) -> CommandResult<String> {
        let statistics = results.statistics();
        if self.flags.bool("report-perfdash") {
            save_perfdash(name, &load::perfdash(&statistics, name));
        }
        let precision = match self.flags.bool("precise") {
            true => Precision::Full,
            false => Precision::Short,
        };
        let seconds = self.flags.bool("sample").then(|| load::seconds(&results));
        let text = load::report(&statistics, precision, seconds.as_deref());
        self.measured.push((name.to_string(), results));
        Ok(text)
    }

    /// Prints what the servers have used and saves the plot.
    pub(crate) fn end(self) -> CommandResult {
        output::text(&self.servers.report());
        let path = self.flags.text("svg");
        if path.is_empty() {
            return Ok(());
        }
        let panels: Vec<_> =
            self.measured.iter().map(|(title, results)| Panel { title, results }).collect();
        let saved = std::fs::write(&path, load::svg(&panels));
        saved.map_err(|error| format!("cannot write {path}: {error}").into())
    }
}

/// A signal that never comes, for loads that end by themselves.
pub(crate) fn never() -> watch::Receiver<bool> {
    watch::channel(false).1
}

fn config(flags: &Flags) -> CommandResult<Config> {
    if !flags.duration("auto-sync-interval").is_zero() {
        return Err("--auto-sync-interval is not built".to_string().into());
    }
    let endpoints = flags.list("endpoints").iter().map(|text| text.trim().to_string()).collect();
    let mut config = Config::new(endpoints);
    let dial_timeout = flags.duration("dial-timeout");
    if !dial_timeout.is_zero() {
        config.dial_timeout = dial_timeout;
    }
    config.tls = tls(flags)?;
    let user = flags.text("user");
    config.user = match user.split_once(':') {
        _ if user.is_empty() => None,
        Some((name, password)) => Some((name.to_string(), password.to_string())),
        None => {
            let password = terminal::ask_password("Password: ")
                .map_err(|why| format!("bad user information: {user} {why}"))?;
            Some((user, password))
        }
    };
    Ok(config)
}

/// The TLS options, if a flag requires TLS. As in etcd, `--insecure-skip-tls-verify` alone does not.
fn tls(flags: &Flags) -> CommandResult<Option<TlsOptions>> {
    let file = |name: &str| Some(flags.text(name)).filter(|path| !path.is_empty());
    let pair = match (file("cert"), file("key")) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some(KeyPair { cert: cert.into(), key: key.into() }),
        (cert, key) => {
            let (cert, key) = (cert.unwrap_or_default(), key.unwrap_or_default());
            return Err(format!(
                "bad tls config: KeyFile and CertFile must both be present[key: {key}, cert: {cert}]"
            )
            .into());
        }
    };
    let trusted_ca = file("cacert").map(PathBuf::from);
    let skips_verification = flags.bool("insecure-skip-tls-verify");
    let is_asked = pair.is_some() || trusted_ca.is_some();
    Ok(is_asked.then(|| TlsOptions { pair, trusted_ca, skips_verification, ..Default::default() }))
}

/// The endpoint that is the leader.
async fn leader(config: &Config) -> CommandResult<String> {
    for endpoint in &config.endpoints {
        let one = Config { endpoints: vec![endpoint.clone()], ..config.clone() };
        let client = Client::connect(one).await?.with_timeout(config.dial_timeout);
        let status = client.status(pb::StatusRequest {}).await?;
        if status.header.is_some_and(|header| header.member_id == status.leader) {
            return Ok(endpoint.clone());
        }
    }
    Err("none of the endpoints is the leader".to_string().into())
}

/// Saves a report for perfdash, and says where. If it cannot be saved, the benchmark goes on.
fn save_perfdash(name: &str, json: &str) {
    let dir = std::env::var("ARTIFACTS").ok().filter(|dir| !dir.is_empty());
    let dir = dir.unwrap_or_else(|| "./_artifacts".to_string());
    let time = cli::log::timestamp(SystemTime::now(), 0);
    let path = Path::new(&dir).join(format!("EtcdAPI_benchmark_{name}_{time}.json"));
    match std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&path, json)) {
        Ok(()) => {
            let path = path.display();
            output::line(&format!("Successfully created a JSON perf report at {path}"));
        }
        Err(error) => output::line(&format!("Error writing to file: {error}")),
    }
}

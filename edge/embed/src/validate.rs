//! Validation of the configuration: etcd's checks in etcd's order with its messages, then the
//! refusal of features that are not implemented.
//!
//! Source: etcd server/embed/config.go `Validate` and server/embed/etcd.go
//! `parseCompactionRetention` @ v3.7.1.

use crate::config::{Config, Discovery, Logging};
use crate::flags::{self, Built};
use crate::gates::Gates;
use crate::settings::{Notice, Settings};
use crate::{listening, tls, token};
use cli::duration::GoDuration;
use executor::AutoCompaction;
use net::Url;
use std::net::IpAddr;

/// The error when client listen URLs are given without advertised ones.
pub const UNSET_ADVERTISE: &str =
    "--advertise-client-urls is required when --listen-client-urls is set explicitly";

/// The longest election timeout, in milliseconds.
const ELECTION_MS_MAX: u64 = 50_000;

/// Checks the settings. The notices are to be logged whether there is a configuration or not.
pub fn check(settings: &Settings) -> (Result<Config, String>, Vec<Notice>) {
    let mut notices = Vec::new();
    let config = checked(settings, &mut notices);
    (config, notices)
}

/// Checks the settings of the log, before the log is opened.
///
/// # Errors
/// etcd's message.
pub fn check_logging(s: &Settings) -> Result<Logging, String> {
    match s.text("logger").as_str() {
        "zap" => {}
        "capnslog" => return Err("--logger=capnslog is removed in v3.5".to_owned()),
        other => return Err(format!("unknown logger option {other:?}")),
    }
    let mut logging = crate::config::logging(s);
    let rules = s.text("log-rotation-config-json");
    let rotation = s.bool("enable-log-rotation").then_some(&*rules);
    logging.rotation = crate::logging::check_outputs(&logging.outputs, rotation)?;
    if !["debug", "info", "warn", "error", "dpanic", "panic", "fatal"]
        .contains(&logging.level.as_str())
    {
        return Err(format!("unrecognized level: {:?}", logging.level));
    }
    if !["json", "console"].contains(&logging.format.as_str()) {
        let format = &logging.format;
        return Err(format!("unknown log format: {format}, supported values json, console"));
    }
    Ok(logging)
}

fn not_built(flag: &str, what: &str) -> String {
    format!("--{flag} cannot be used: {what} is not built yet in this server")
}

impl Config {
    /// The configuration of a server without any settings, for tests and other programs.
    pub fn new() -> Self {
        let (config, _) = check(&Settings::default());
        config.expect("the defaults are a valid configuration")
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

fn checked(s: &Settings, notices: &mut Vec<Notice>) -> Result<Config, String> {
    if s.text("discovery-fallback") == "proxy" {
        return Err(
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\""
                .to_owned(),
        );
    }
    let logging = check_logging(s)?;
    let mut config = Config::from_settings(s, logging, AutoCompaction::Off);
    check_urls(&config, notices)?;
    check_bootstrap(s)?;
    check_times(&config)?;
    check_peer_times(s, notices);
    if config.urls.advertise_client.is_empty() {
        return Err(UNSET_ADVERTISE.to_owned());
    }
    check_compaction_mode(s)?;
    check_features(s, &config.gates, notices)?;
    if config.member.name == "default" {
        let message = "it isn't recommended to use default name, please set a value for --name. Note that etcd might run into issue when multiple members have the same default name";
        notices.push(Notice::new("warn", message, [("name", config.member.name.clone())]));
    }
    tls::check(s)?;
    notices.extend(listening::ignored(&config));
    config.member.auth.tokens = token::parse(&s.text("auth-token"), notices)?;
    refuse_not_built(s, notices)?;
    config.commits.auto_compaction = auto_compaction(s)?;
    check_limits(&config, notices)?;
    follow_name(&mut config);
    Ok(config)
}

fn check_urls(config: &Config, notices: &mut Vec<Notice>) -> Result<(), String> {
    check_bind(&config.urls.listen_peer)?;
    check_bind(&config.urls.listen_client)?;
    check_bind(&config.urls.listen_client_http)?;
    if config.urls.listen_client_http.is_empty() {
        let message =
            "Running http and grpc server on single port. This is not recommended for production.";
        notices.push(Notice::new("warn", message, []));
    }
    check_bind(&config.urls.listen_metrics)?;
    check_host(&config.urls.advertise_peer).map_err(|e| {
        let urls = join(&config.urls.advertise_peer);
        format!("--initial-advertise-peer-urls {urls:?} must be \"host:port\" ({e})")
    })?;
    check_host(&config.urls.advertise_client).map_err(|e| {
        let urls = join(&config.urls.advertise_client);
        format!(
            "--advertise-client-urls {urls:?} must be in the format \"host:port\", \
             \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" ({e})"
        )
    })
}

/// URLs, comma separated.
pub(crate) fn join(urls: &[Url]) -> String {
    urls.iter().map(Url::as_str).collect::<Vec<_>>().join(",")
}

fn check_bind(urls: &[Url]) -> Result<(), String> {
    for url in urls.iter().filter(|url| !url.scheme().is_unix()) {
        let host = url.host();
        if host != "localhost" && host.parse::<IpAddr>().is_err() {
            return Err(format!("expected IP in URL for binding ({url})"));
        }
    }
    Ok(())
}

fn check_host(urls: &[Url]) -> Result<(), String> {
    match urls.iter().find(|url| !url.scheme().is_unix() && url.host().is_empty()) {
        Some(url) => Err(format!("unexpected empty host ({url})")),
        None => Ok(()),
    }
}

fn check_bootstrap(s: &Settings) -> Result<(), String> {
    let endpoints = s.words("discovery-endpoints");
    let discovering = !s.text("discovery-srv").is_empty() || !endpoints.is_empty();
    let clustered = s.is_given("initial-cluster") && !s.text("initial-cluster").is_empty();
    let ways = [clustered, !s.text("discovery-srv").is_empty(), !endpoints.is_empty()];
    if discovering && ways.iter().filter(|way| **way).count() > 1 {
        return Err(
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
             \"discovery-endpoints\" or \"discovery-srv\""
                .to_owned(),
        );
    }
    if s.text("discovery-token").is_empty() != endpoints.is_empty() {
        return Err("both --discovery-token and --discovery-endpoints must be set".to_owned());
    }
    if endpoints.iter().any(|endpoint| endpoint.trim().is_empty()) {
        return Err("--discovery-endpoints must not contain empty endpoints".to_owned());
    }
    let (cert, key) = (s.text("discovery-cert"), s.text("discovery-key"));
    if cert.is_empty() != key.is_empty() {
        return Err(format!("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]"));
    }
    if !s.text("discovery-user").is_empty() && crate::config::discovery_user(s).is_none() {
        return Err(
            "--discovery-user needs a password: NAME:PASSWORD, or --discovery-password".to_owned()
        );
    }
    if s.text("discovery-srv").is_empty() && !s.text("discovery-srv-name").is_empty() {
        return Err("--discovery-srv-name needs --discovery-srv".to_owned());
    }
    Ok(())
}

/// Times between members that are too short are raised.
fn check_peer_times(s: &Settings, notices: &mut Vec<Notice>) {
    let min = peer::STREAM_TIME_MIN;
    for name in ["raft-read-timeout", "raft-write-timeout"] {
        if s.duration(name).to_std() < min {
            let min = GoDuration::from(min);
            let message = format!("{name} increased to minimum value: {min}");
            notices.push(Notice::new("info", &message, []));
        }
    }
}

fn check_times(config: &Config) -> Result<(), String> {
    let (tick, election) = (config.member.tick_ms, config.member.election_ms);
    if tick == 0 {
        return Err("--heartbeat-interval must be >0 (set to 0ms)".to_owned());
    }
    if election == 0 {
        return Err("--election-timeout must be >0 (set to 0ms)".to_owned());
    }
    if tick.saturating_mul(5) > election {
        return Err(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as \
             --heartbeat-interval[{tick}ms]"
        ));
    }
    if election > ELECTION_MS_MAX {
        return Err(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than \
             {ELECTION_MS_MAX}ms"
        ));
    }
    Ok(())
}

fn check_compaction_mode(s: &Settings) -> Result<(), String> {
    match s.text("auto-compaction-mode").as_str() {
        "revision" | "periodic" => Ok(()),
        "" => Err("undefined auto-compaction-mode".to_owned()),
        other => Err(format!("unknown auto-compaction-mode {other:?}")),
    }
}

fn check_features(s: &Settings, gates: &Gates, notices: &mut Vec<Notice>) -> Result<(), String> {
    let rate = s.int("distributed-tracing-sampling-rate");
    if s.bool("enable-distributed-tracing") && !(0..=1_000_000).contains(&rate) {
        let bound = if rate < 0 { "positive" } else { "less than 1000000" };
        return Err(format!(
            "distributed tracing configurition is not valid: (tracing sampling rate must be {bound})"
        ));
    }
    let (checkpoint, persist) =
        (gates.enabled("LeaseCheckpoint"), gates.enabled("LeaseCheckpointPersist"));
    if checkpoint && !persist {
        let message = "Detected that checkpointing is enabled without persistence. Consider enabling feature gate LeaseCheckpointPersist";
        notices.push(Notice::new("warn", message, []));
    }
    if persist && !checkpoint {
        return Err("enabling feature gate LeaseCheckpointPersist requires enabling feature gate \
             LeaseCheckpoint"
            .to_owned());
    }
    let check_time = s.duration("compact-hash-check-time");
    if check_time.0 <= 0 {
        return Err(format!("--compact-hash-check-time must be >0 (set to {check_time})"));
    }
    Ok(())
}

/// No flag is ignored silently: it is implemented, refused, or logged as having no effect.
fn refuse_not_built(s: &Settings, notices: &mut Vec<Notice>) -> Result<(), String> {
    for (flag, _) in s.changed() {
        match flag.built {
            Built::Yes => {}
            Built::No(what) => return Err(not_built(flag.name, what)),
            Built::NoEffect(why) => {
                let message = "this flag has no effect in this server";
                let fields = [("flag", flag.name.to_owned()), ("reason", why.to_owned())];
                notices.push(Notice::new("warn", message, fields));
            }
        }
    }
    for (name, message) in flags::DEPRECATED {
        if s.is_given(name) {
            notices.push(Notice::new("warn", message, []));
        }
    }
    Ok(())
}

fn check_limits(config: &Config, notices: &mut Vec<Notice>) -> Result<(), String> {
    // With etcd, 512 KiB for gRPC come on top and the sum must fit an i32 of HTTP/2's frames.
    const REQUEST_MAX: u64 = 1 << 30;
    const RECOMMENDED: u64 = 10 * 1024 * 1024;
    let request = config.limits.max_request_bytes;
    if request > REQUEST_MAX {
        return Err(format!(
            "--max-request-bytes must be at most {REQUEST_MAX} (set to {request})"
        ));
    }
    if request > RECOMMENDED {
        let fields = [
            ("max-request-bytes", request.to_string()),
            ("recommended-request-bytes", RECOMMENDED.to_string()),
        ];
        let message = "exceeded recommended request limit";
        notices.push(Notice::new("warn", message, fields));
    }
    Ok(())
}

/// Reads `--auto-compaction-retention` by its mode.
///
/// # Errors
/// etcd's message; and, other than with etcd, for a negative time.
pub(crate) fn auto_compaction(s: &Settings) -> Result<AutoCompaction, String> {
    let text = match s.text("auto-compaction-retention") {
        none if none.is_empty() => "0".to_owned(),
        given => given,
    };
    let periodic = s.text("auto-compaction-mode") == "periodic";
    if let Ok(count) = text.parse::<u32>() {
        let hours = std::time::Duration::from_secs(u64::from(count) * 3600);
        return Ok(match (count, periodic) {
            (0, _) => AutoCompaction::Off,
            (_, true) => AutoCompaction::Periodic(hours),
            (_, false) => AutoCompaction::Revision(u64::from(count)),
        });
    }
    if !periodic {
        // etcd reads a duration here as a number of nanoseconds, which is never intended.
        return text.parse::<u64>().map(AutoCompaction::Revision).map_err(|_| {
            format!("error parsing CompactionRetention: {text:?} is no number of revisions")
        });
    }
    let time = GoDuration::parse(&text)
        .map_err(|e| format!("error parsing CompactionRetention: time: {e}"))?;
    match time.0 {
        0 => Ok(AutoCompaction::Off),
        1.. => Ok(AutoCompaction::Periodic(time.to_std())),
        _ => Err(format!("error parsing CompactionRetention: {text:?} is negative")),
    }
}

/// `--initial-cluster` follows the name and the advertised URLs where it is not given, and
/// `--data-dir` the name.
fn follow_name(config: &mut Config) {
    let host = default_host();
    let substitute = |listen: &[Url], advertise: &mut Vec<Url>, flag: &str| {
        let (Some(first), Some(host)) = (listen.first(), &host) else { return };
        if first.host() == "0.0.0.0"
            && *advertise == Settings::default().urls(flag)
            && let Ok(url) = first.with_host(host)
        {
            *advertise = vec![url];
        }
    };
    let urls = &mut config.urls;
    substitute(&urls.listen_peer, &mut urls.advertise_peer, "initial-advertise-peer-urls");
    substitute(&urls.listen_client, &mut urls.advertise_client, "advertise-client-urls");
    let name = match config.member.name.as_str() {
        "" => "default",
        name => name,
    };
    // As in etcd, with the default name the default does not follow the advertised URLs.
    let default = "default=http://localhost:2380";
    let is_static = matches!(config.bootstrap.discovery, Discovery::Off);
    let cluster = &mut config.bootstrap.initial_cluster;
    if cluster.is_empty() && is_static {
        default.clone_into(cluster);
    }
    if name != "default" && cluster == default {
        let mine: Vec<String> =
            config.urls.advertise_peer.iter().map(|url| format!("{name}={url}")).collect();
        *cluster = mine.join(",");
    }
    if config.member.data_dir.as_os_str().is_empty() {
        config.member.data_dir = format!("{}.etcd", config.member.name).into();
    }
}

/// The address of this machine on its default route, if it has one. Nothing is sent.
fn default_host() -> Option<String> {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("8.8.8.8", 53)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then(|| address.to_string())
}

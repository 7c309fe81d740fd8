//! `etcd grpc-proxy`: its flags, the files of TLS, and the start of the proxy.
//!
//! Not here: the proxy itself (`grpcproxy`), and the search for endpoints (`gateway`).
//!
//! Source: etcd server/etcdmain/grpc_proxy.go @ v3.7.1.

use crate::listening::pair;
use crate::{gateway, profiles, system, tls};
use cli::{Command, Flag, Flags, Kind};
use client::{Config, TlsOptions};
use dns::Resolver;
use grpcproxy::{GrpcProxy, Options, Port, Registration, Traffic};
use net::tls::{
    Crypto, KeyPair, NO_VALIDITY, Security, ServerOptions, ServerTls, TlsError, Version,
    self_signed,
};
use net::{Listener, SocketOptions, Url};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The time limit of a connection to a server, as in etcd.
const DIAL_TIME_MAX: Duration = Duration::from_secs(5);
/// File descriptors for the connections to the servers, and for one that is closed in favour of a new
/// one.
const FDS_OF_SERVERS: u64 = 50;

/// `etcd grpc-proxy`.
pub(crate) const COMMAND: Command = Command {
    usage: "grpc-proxy <subcommand>",
    short: "Commands of the gRPC proxy",
    commands: &[START],
    ..Command::NONE
};

const START: Command = Command {
    usage: "start",
    short: "Starts the gRPC proxy",
    long: "Starts the gRPC proxy: it serves etcd's API, answers repeated reads from a cache, and lets \
           many watches\nshare one at a server.",
    flags: FLAGS,
    ..Command::NONE
};

const FLAGS: &[Flag] = &[
    Flag::new(
        "advertise-client-url",
        Kind::Text,
        "127.0.0.1:23790",
        "the address in the list of members; empty to list the members of the cluster",
    ),
    Flag::switch("auto-tls", "make a certificate for clients"),
    Flag::new("cacert", Kind::Text, "", "the authorities for verifying the servers"),
    Flag::new("cert", Kind::Text, "", "the certificate for the servers, without a common name"),
    Flag::new("cert-file", Kind::Text, "", "the certificate for clients"),
    Flag::new("client-crl-file", Kind::Text, "", "the revoked certificates of clients"),
    Flag::new("data-dir", Kind::Text, "default.proxy", "the directory of made certificates"),
    Flag::switch("debug", "log with the level debug"),
    Flag::new(
        "dial-keepalive-time",
        Kind::Duration,
        "0s",
        "the time without traffic after which a server is pinged; 0 for never",
    ),
    Flag::new(
        "dial-keepalive-timeout",
        Kind::Duration,
        "20s",
        "the time after which a server that does not answer a ping is disconnected",
    ),
    Flag::new(
        "discovery-srv",
        Kind::Text,
        "",
        "the DNS domain whose SRV records name the endpoints",
    ),
    Flag::new("discovery-srv-name", Kind::Text, "", "a suffix to the name in the SRV records"),
    Flag::switch("enable-pprof", "serve profiles at /debug/pprof/"),
    Flag::new("endpoints", Kind::List, "127.0.0.1:2379", "the servers, separated by commas"),
    Flag::new(
        "endpoints-auto-sync-interval",
        Kind::Duration,
        "0s",
        "the interval of reading the list of servers (not built yet)",
    ),
    Flag::switch(
        "experimental-enable-grpc-logging",
        "log requests and responses (not built: values and passwords are in them)",
    ),
    Flag::new(
        "experimental-leasing-prefix",
        Kind::Text,
        "",
        "the prefix of keys that mark what the proxy may answer alone (not built yet)",
    ),
    Flag::switch(
        "experimental-serializable-ordering",
        "never answer a serializable read with an older state than before",
    ),
    Flag::new(
        "grpc-keepalive-interval",
        Kind::Duration,
        "2h0m0s",
        "the time without traffic after which a client is pinged; 0 for never",
    ),
    Flag::new(
        "grpc-keepalive-min-time",
        Kind::Duration,
        "5s",
        "no effect: clients may ping as often as they like",
    ),
    Flag::new(
        "grpc-keepalive-timeout",
        Kind::Duration,
        "20s",
        "the time after which a client that does not answer a ping is disconnected; 0 for 20s",
    ),
    Flag::switch("insecure-discovery", "accept servers of the SRV records without verifying them"),
    Flag::switch(
        "insecure-skip-tls-verify",
        "accept every certificate of a server; for tests only",
    ),
    Flag::new("key", Kind::Text, "", "the key of --cert"),
    Flag::new("key-file", Kind::Text, "", "the key of --cert-file"),
    Flag::new("listen-addr", Kind::Text, "127.0.0.1:23790", "the address to listen on"),
    Flag::new(
        "listen-cipher-suites",
        Kind::List,
        "",
        "the cipher suites of TLS 1.2 for clients, separated by commas; empty for all",
    ),
    Flag::new(
        "max-concurrent-streams",
        Kind::Uint,
        "4294967295",
        "the maximum number of open calls of a connection",
    ),
    Flag::new("max-recv-bytes", Kind::Int, "2147483647", "the maximum size of a server's response"),
    Flag::new("max-send-bytes", Kind::Int, "1572864", "the maximum size of a request to a server"),
    Flag::new("metrics-addr", Kind::Text, "", "a URL where health and metrics are served, too"),
    Flag::new("namespace", Kind::Text, "", "a prefix that all keys get"),
    Flag::switch("permit-without-stream", "ping servers also when there is no call"),
    Flag::new(
        "resolver-prefix",
        Kind::Text,
        "",
        "the prefix of the keys by which proxies know each other",
    ),
    Flag::new("resolver-ttl", Kind::Int, "0", "the TTL of these keys in seconds"),
    Flag::new(
        "self-signed-cert-validity",
        Kind::Uint,
        "1",
        "the years that made certificates last",
    ),
    Flag::new("tls-max-version", Kind::Text, "", "the newest version of TLS for clients"),
    Flag::new("tls-min-version", Kind::Text, "TLS1.2", "the oldest version of TLS for clients"),
    Flag::new("trusted-ca-file", Kind::Text, "", "the authorities for verifying clients"),
];

/// Serves until a signal ends the process.
pub(crate) fn run(flags: &Flags) -> Result<(), String> {
    let crypto = check(flags)?;
    let own = own_certificate(flags)?;
    let security = security(flags, own.as_ref(), crypto)?;
    let fds =
        system::raise_fd_limit().map_err(|e| format!("cannot read the limit of files: {e}"))?;
    let places = fds.saturating_sub(system::FDS_RESERVED + FDS_OF_SERVERS);
    let listen = flags.text("listen-addr");
    let listener = bind(&format!("http://{listen}"))?;
    tracing::info!(address = listen, "listening for gRPC proxy client requests");
    let mut ports = vec![Port { listener, security: security.clone(), traffic: Traffic::All }];
    let servers = servers(flags, &Resolver::system())?;
    let order = if flags.bool("experimental-serializable-ordering") {
        tracing::info!("waiting for linearized read from cluster to recover ordering");
        Some(grpcproxy::recover_order(&servers)?)
    } else {
        None
    };
    if flags.bool("enable-pprof") {
        tracing::info!(path = profiles::PREFIX, "gRPC proxy enabled pprof");
    }
    ports.extend(metrics_port(flags, &security)?);
    let connections_max = usize::try_from(places).unwrap_or(usize::MAX).max(1);
    let options = Options {
        itself: itself(flags, own.as_ref()),
        servers,
        advertised: flags.text("advertise-client-url"),
        host_name: host_name(),
        registration: registration(flags),
        namespace: flags.bytes("namespace").to_vec(),
        order,
        streams_max: u32::try_from(flags.uint("max-concurrent-streams")).unwrap_or(u32::MAX),
        pings: pings(flags),
        connections_max,
        profiles: flags.bool("enable-pprof").then_some(|path, query| {
            Box::pin(async move { profiles::answer(&path, &query).await })
        }),
    };
    // The signals are blocked in the proxy's threads, so that only this thread receives them.
    system::block_signals().map_err(|e| format!("cannot block signals: {e}"))?;
    let proxy = GrpcProxy::start(options, ports)?;
    tracing::info!(address = listen, "started gRPC proxy");
    system::log_ready();
    let signal = system::wait_for_signal().map_err(|e| format!("cannot wait for signals: {e}"))?;
    let name = system::signal_name(signal);
    tracing::info!(signal = name, "received signal; shutting down");
    drop(proxy);
    system::terminate_by(signal);
    Ok(())
}

/// The checks of the flags that need no files. Returns the versions and suites for clients.
fn check(flags: &Flags) -> Result<Crypto, String> {
    let (prefix, ttl) = (flags.text("resolver-prefix"), flags.int("resolver-ttl"));
    if !prefix.is_empty() && ttl < 1 {
        return Err(format!("invalid resolver-ttl {ttl}"));
    }
    if prefix.is_empty() && ttl > 0 {
        return Err(format!("invalid resolver-prefix {prefix:?}"));
    }
    let advertised = flags.text("advertise-client-url");
    if !prefix.is_empty() && advertised.is_empty() {
        return Err(format!("invalid advertise-client-url {advertised:?}"));
    }
    if flags.bool("auto-tls") && flags.uint("self-signed-cert-validity") == 0 {
        return Err(NO_VALIDITY.to_owned());
    }
    if !flags.text("experimental-leasing-prefix").is_empty() {
        return Err("--experimental-leasing-prefix is not built yet".to_owned());
    }
    if !flags.duration("endpoints-auto-sync-interval").is_zero() {
        return Err("--endpoints-auto-sync-interval is not built yet".to_owned());
    }
    if flags.bool("experimental-enable-grpc-logging") {
        let why = "--experimental-enable-grpc-logging is not built: requests and responses contain \
                   values and passwords";
        return Err(why.to_owned());
    }
    if flags.changed("grpc-keepalive-min-time") {
        tracing::warn!(
            "--grpc-keepalive-min-time has no effect: clients may ping as often as they \
                        like"
        );
    }
    let (min, max) = (flags.text("tls-min-version"), flags.text("tls-max-version"));
    let lowest = tls::version(&min, Version::Tls12);
    let lowest = lowest.map_err(|error| format!("tls-min-version is invalid: {error}"))?;
    let highest = tls::version(&max, Version::Tls13);
    let highest = highest.map_err(|error| format!("tls-max-version is invalid: {error}"))?;
    let suites = flags.list("listen-cipher-suites");
    tls::between((&min, lowest), (&max, highest), &suites)
}

fn bind(url: &str) -> Result<Listener, String> {
    let url = Url::parse(url).map_err(|error| error.to_string())?;
    Listener::bind(&url, SocketOptions::default()).map_err(|error| error.to_string())
}

fn file(flags: &Flags, name: &str) -> Option<PathBuf> {
    Some(PathBuf::from(flags.text(name))).filter(|path| !path.as_os_str().is_empty())
}

/// The certificate for clients, if there is one. Made with `--auto-tls`, unless one is given.
fn own_certificate(flags: &Flags) -> Result<Option<KeyPair>, String> {
    let (cert, key) = (flags.text("cert-file"), flags.text("key-file"));
    let has_none = cert.is_empty() && key.is_empty();
    if !has_none {
        return pair(&cert, &key).map(Some);
    }
    let listen = flags.text("listen-addr");
    if !flags.text("trusted-ca-file").is_empty() {
        return Err(format!(
            "cannot listen on TLS for {listen}: KeyFile and CertFile are not presented"
        ));
    }
    if !flags.bool("auto-tls") {
        return Ok(None);
    }
    let host = listen.rsplit_once(':').map_or(&*listen, |(host, _)| host);
    let host = host.trim_matches(['[', ']']).to_owned();
    let hosts: Vec<String> = Some(host).into_iter().filter(|host| !host.is_empty()).collect();
    let directory = Path::new(&flags.text("data-dir")).join("fixtures").join("proxy");
    let years = flags.uint("self-signed-cert-validity");
    self_signed(&directory, &hosts, years).map(Some).map_err(|error| error.to_string())
}

/// What the clients' port expects of its connections.
fn security(flags: &Flags, own: Option<&KeyPair>, crypto: Crypto) -> Result<Security, String> {
    let Some(own) = own else { return Ok(Security::Plain) };
    let text = |name: &str| flags.text(name);
    let info = tls_info(&own.cert.display().to_string(), &own.key.display().to_string(), flags);
    tracing::info!("tls-info" = info, "gRPC proxy server TLS");
    let options = ServerOptions {
        trusted_ca: Some(text("trusted-ca-file")).filter(|it| !it.is_empty()).map(PathBuf::from),
        crl: file(flags, "client-crl-file"),
        crypto,
        protocols: vec!["h2", "http/1.1"],
        ..ServerOptions::new(own.clone())
    };
    let failed = |error: TlsError| format!("failed to create TLS listener: {error}");
    Ok(Security::Tls(Arc::new(ServerTls::new(options).map_err(failed)?)))
}

/// The settings of TLS as etcd logs them.
fn tls_info(cert: &str, key: &str, flags: &Flags) -> String {
    format!(
        "cert = {cert}, key = {key}, client-cert=, client-key=, trusted-ca = {}, client-cert-auth = \
         false, crl-file = {}",
        flags.text("trusted-ca-file"),
        flags.text("client-crl-file")
    )
}

/// The port of `--metrics-addr`, if it is given. Its scheme decides whether it has TLS.
fn metrics_port(flags: &Flags, security: &Security) -> Result<Option<Port>, String> {
    let address = flags.text("metrics-addr");
    if address.is_empty() {
        return Ok(None);
    }
    let url = Url::parse(&address).map_err(|error| format!("cannot parse {address:?}: {error}"))?;
    let security = match (url.scheme().is_secure(), security) {
        (false, _) => Security::Plain,
        (true, Security::Tls(tls) | Security::Either(tls)) => Security::Tls(Arc::clone(tls)),
        (true, Security::Plain) => {
            let place = url.address();
            let why = "KeyFile and CertFile are not presented";
            return Err(format!("cannot listen on TLS for {place}: {why}"));
        }
    };
    let listener = bind(&address)?;
    tracing::info!(address, "gRPC proxy listening for metrics");
    Ok(Some(Port { listener, security, traffic: Traffic::Http }))
}

/// The servers, and how they are connected.
fn servers(flags: &Flags, resolver: &Resolver) -> Result<Config, String> {
    let found = gateway::discover(flags, &flags.text("cacert"), resolver)?;
    let mut endpoints: Vec<String> = found.into_iter().map(|endpoint| endpoint.url).collect();
    if endpoints.is_empty() {
        endpoints = flags.list("endpoints");
    }
    let defaults = Config::new(endpoints);
    let size = |name: &str, default: usize| match usize::try_from(flags.int(name)) {
        Ok(0) | Err(_) => default,
        Ok(size) => size,
    };
    let timeout = flags.duration("dial-keepalive-timeout");
    Ok(Config {
        tls: server_tls(flags)?,
        dial_timeout: DIAL_TIME_MAX,
        keep_alive_time: flags.duration("dial-keepalive-time"),
        pings_without_calls: flags.bool("permit-without-stream"),
        keep_alive_timeout: if timeout.is_zero() { defaults.keep_alive_timeout } else { timeout },
        request_bytes_max: size("max-send-bytes", defaults.request_bytes_max),
        answer_bytes_max: size("max-recv-bytes", defaults.answer_bytes_max),
        ..defaults
    })
}

/// The certificate for the servers, and how theirs are verified; `None` without TLS.
fn server_tls(flags: &Flags) -> Result<Option<TlsOptions>, String> {
    let (cert, key) = (flags.text("cert"), flags.text("key"));
    let (trusted_ca, skips) = (file(flags, "cacert"), flags.bool("insecure-skip-tls-verify"));
    let has_pair = !cert.is_empty() || !key.is_empty();
    if !has_pair && trusted_ca.is_none() && !skips {
        return Ok(None);
    }
    let pair = has_pair.then(|| pair(&cert, &key)).transpose()?;
    if let Some(pair) = &pair {
        // Servers would take the name for the user of every client.
        let name = pair.common_name().map_err(|error| error.to_string())?;
        if !name.is_empty() {
            return Err(format!("cert has non empty Common Name ({name}): {cert}"));
        }
    }
    if skips {
        tracing::warn!(
            "--insecure-skip-tls-verify was given, this grpc proxy process skips authentication of \
             etcd server TLS certificates. This option should be enabled only for testing purposes."
        );
    }
    let info = format!(
        "cert = {cert}, key = {key}, client-cert=, client-key=, trusted-ca = {}, client-cert-auth = \
         false, crl-file = ",
        flags.text("cacert")
    );
    tracing::info!("tls-info" = info, "gRPC proxy client TLS");
    Ok(Some(TlsOptions { pair, trusted_ca, skips_verification: skips, ..TlsOptions::default() }))
}

/// How the proxy connects to itself, with its own certificate as that of a client.
fn itself(flags: &Flags, own: Option<&KeyPair>) -> Option<Config> {
    let advertised = flags.text("advertise-client-url");
    if advertised.is_empty() {
        return None;
    }
    tracing::info!("grpcProxyAdvertiseClientURL" = advertised, "create proxy client");
    let tls = own.map(|own| TlsOptions {
        pair: Some(own.clone()),
        trusted_ca: file(flags, "trusted-ca-file"),
        // No authority has issued a made certificate.
        skips_verification: flags.bool("auto-tls") && flags.text("cert-file").is_empty(),
        ..TlsOptions::default()
    });
    Some(Config { tls, dial_timeout: DIAL_TIME_MAX, ..Config::new(vec![advertised]) })
}

fn registration(flags: &Flags) -> Option<Registration> {
    let (prefix, ttl_s) = (flags.text("resolver-prefix"), flags.int("resolver-ttl"));
    (!prefix.is_empty()).then_some(Registration { prefix, ttl_s })
}

/// The times of pings to clients; those of grpc-go instead of zeros.
fn pings(flags: &Flags) -> Option<(Duration, Duration)> {
    const TIMEOUT: Duration = Duration::from_secs(20);
    let interval = flags.duration("grpc-keepalive-interval");
    let timeout = flags.duration("grpc-keepalive-timeout");
    let timeout = if timeout.is_zero() { TIMEOUT } else { timeout };
    (!interval.is_zero()).then_some((interval, timeout))
}

/// The name of this machine; empty if the kernel does not tell.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cli::Invocation;

    fn flags(words: &[&str]) -> Flags {
        let words = ["grpc-proxy", "start"].iter().chain(words);
        let words: Vec<Vec<u8>> = words.map(|word| word.as_bytes().to_vec()).collect();
        match cli::parse(&crate::commands::ROOT, &words) {
            Invocation::Run(parsed) => parsed.flags,
            Invocation::Help(text) | Invocation::Wrong(text) => panic!("{text}"),
        }
    }

    #[test]
    fn flags_that_do_not_fit_together_are_refused_with_etcds_words() {
        for (words, error) in [
            (&["--resolver-prefix=p"][..], "invalid resolver-ttl 0"),
            (&["--resolver-ttl=1"], "invalid resolver-prefix \"\""),
            (
                &["--resolver-prefix=p", "--resolver-ttl=1", "--advertise-client-url="],
                "invalid advertise-client-url \"\"",
            ),
            (&["--auto-tls", "--self-signed-cert-validity=0"], NO_VALIDITY),
            (
                &["--tls-min-version=TLS1.1"],
                "tls-min-version is invalid: unexpected TLS version \"TLS1.1\" (must be one of: \
                 TLS1.2, TLS1.3)",
            ),
            (
                &["--tls-max-version=x"],
                "tls-max-version is invalid: unexpected TLS version \"x\" (must be one of: TLS1.2, \
                 TLS1.3)",
            ),
            (
                &["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
                "min version (TLS1.3) is greater than max version (TLS1.2)",
            ),
            (
                &["--tls-min-version=TLS1.3", "--listen-cipher-suites=x"],
                "cipher suites cannot be configured when only TLS1.3 is enabled",
            ),
            (
                &["--experimental-leasing-prefix=l"],
                "--experimental-leasing-prefix is not built yet",
            ),
        ] {
            assert_eq!(check(&flags(words)).unwrap_err(), error, "{words:?}");
        }
        assert!(check(&flags(&[])).is_ok());
        let lone = server_tls(&flags(&["--key=k"])).unwrap_err();
        assert_eq!(lone, "KeyFile and CertFile must both be present[key: k, cert: ]");
    }

    #[test]
    fn the_defaults_are_etcds() {
        let config = servers(&flags(&[]), &Resolver::parse("")).unwrap();
        assert_eq!(config.endpoints, ["127.0.0.1:2379"]);
        assert_eq!((config.request_bytes_max, config.answer_bytes_max), (1_572_864, 2_147_483_647));
        assert!(config.keep_alive_time.is_zero() && config.tls.is_none());
        let config = servers(&flags(&["--max-send-bytes=0"]), &Resolver::parse("")).unwrap();
        assert_eq!(config.request_bytes_max, 2 << 20);
        let times = (Duration::from_secs(2 * 60 * 60), Duration::from_secs(20));
        assert_eq!(pings(&flags(&[])), Some(times));
        assert_eq!(pings(&flags(&["--grpc-keepalive-interval=0s"])), None);
    }
}

//! `etcd gateway`: its flags, the search for endpoints, and the start of the proxy.
//!
//! Not here: the proxy itself (`gateway`).
//!
//! Source: etcd server/etcdmain/{gateway,util}.go @ v3.7.1.

use crate::system;
use cli::{Command, Flag, Flags, Kind};
use dns::{ClientEndpoint, Resolver};
use gateway::{Gateway, Options, Remote, leads_back};
use net::tls::{ClientOptions, ClientTls};
use net::{Listener, SocketOptions, Url};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;
use tokio::net::TcpStream;

/// The delay instead of `--retry-delay=0`.
const RETRY_DELAY: Duration = Duration::from_secs(5 * 60);
/// The time limit for verifying one endpoint.
const VERIFY_TIME_MAX: Duration = Duration::from_secs(5);
/// Those of a connection: to the client and to the server.
const FDS_PER_CONNECTION: u64 = 2;

/// `etcd gateway`.
pub(crate) const COMMAND: Command = Command {
    usage: "gateway <subcommand>",
    short: "Commands of the TCP gateway",
    commands: &[START],
    ..Command::NONE
};

const START: Command = Command {
    usage: "start",
    short: "Starts the gateway",
    long: "Starts the gateway: a TCP proxy that forwards each connection to one of the endpoints. TLS \
           and\nauthentication are between the client and the server.",
    flags: &[
        Flag::new(
            "discovery-srv",
            Kind::Text,
            "",
            "the DNS domain whose SRV records name the endpoints",
        ),
        Flag::new("discovery-srv-name", Kind::Text, "", "a suffix to the name in the SRV records"),
        Flag::new("endpoints", Kind::List, "127.0.0.1:2379", "the servers, separated by commas"),
        Flag::switch(
            "insecure-discovery",
            "accept servers of the SRV records without verifying them",
        ),
        Flag::new("listen-addr", Kind::Text, "127.0.0.1:23790", "the address to listen on"),
        Flag::new(
            "retry-delay",
            Kind::Duration,
            "1m0s",
            "the time after which a server that failed is tried again",
        ),
        Flag::new(
            "trusted-ca-file",
            Kind::Text,
            "",
            "the authorities for verifying the servers of the SRV records",
        ),
    ],
    ..Command::NONE
};

/// Serves until a signal ends the process.
pub(crate) fn run(flags: &Flags) -> Result<(), String> {
    let remotes = remotes(flags, &Resolver::system())?;
    let listen = flags.text("listen-addr");
    refuse_loop(&listen, &remotes)?;
    let fds =
        system::raise_fd_limit().map_err(|e| format!("cannot read the limit of files: {e}"))?;
    let places = fds.saturating_sub(system::FDS_RESERVED) / FDS_PER_CONNECTION;
    // The signals are blocked in the gateway's threads, so that only this thread receives them.
    system::block_signals().map_err(|e| format!("cannot block signals: {e}"))?;
    let listener = bind(&listen)?;
    let options = Options {
        remotes,
        retry_delay: match flags.duration("retry-delay") {
            Duration::ZERO => RETRY_DELAY,
            delay => delay,
        },
        connections_max: usize::try_from(places).unwrap_or(usize::MAX).max(1),
    };
    system::log_ready();
    let gateway = Gateway::start(listener, options).map_err(|e| format!("cannot serve: {e}"))?;
    let signal = system::wait_for_signal().map_err(|e| format!("cannot wait for signals: {e}"))?;
    let name = system::signal_name(signal);
    tracing::info!(signal = name, "received signal; shutting down");
    drop(gateway);
    system::terminate_by(signal);
    Ok(())
}

fn bind(listen: &str) -> Result<Listener, String> {
    let url = Url::parse(&format!("http://{listen}")).map_err(|error| error.to_string())?;
    Listener::bind(&url, SocketOptions::default()).map_err(|error| error.to_string())
}

/// The endpoints: those of the SRV records, or, if there are none, those of `--endpoints`.
fn remotes(flags: &Flags, resolver: &Resolver) -> Result<Vec<Remote>, String> {
    let found = discover(flags, &flags.text("trusted-ca-file"), resolver)?;
    if !found.is_empty() {
        let remote = |endpoint: ClientEndpoint| Remote {
            address: authority(&endpoint.url).to_owned(),
            priority: endpoint.record.priority,
            weight: endpoint.record.weight,
        };
        return Ok(found.into_iter().map(remote).collect());
    }
    let given = flags.list("endpoints");
    if given.is_empty() {
        return Err("no endpoints found".to_owned());
    }
    let remote = |endpoint: &String| {
        let address = authority(endpoint.trim());
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        port.ok_or_else(|| format!("error parsing endpoint {address:?}"))?;
        Ok(Remote { address: address.to_owned(), priority: 0, weight: 0 })
    };
    given.iter().map(remote).collect()
}

/// `host:port` of a URL, or of itself.
fn authority(endpoint: &str) -> &str {
    let behind = endpoint.split_once("://").map_or(endpoint, |(_, behind)| behind);
    behind.split('/').next().unwrap_or(behind)
}

/// The endpoints in the SRV records of `--discovery-srv`, if that is given. `trusted_ca` is the file of
/// the authorities that verify them; empty for those of the operating system.
///
/// # Errors
/// When the records cannot be read.
pub(crate) fn discover(
    flags: &Flags,
    trusted_ca: &str,
    resolver: &Resolver,
) -> Result<Vec<ClientEndpoint>, String> {
    let domain = flags.text("discovery-srv");
    if domain.is_empty() {
        return Ok(Vec::new());
    }
    let found = dns::client_endpoints(resolver, &domain, &flags.text("discovery-srv-name"))?;
    let endpoints = urls(&found);
    tracing::info!("srv-server" = domain, ?endpoints, "discovered cluster from SRV");
    if flags.bool("insecure-discovery") {
        return Ok(found);
    }
    tracing::info!("srv-server" = domain, ?endpoints, "validating discovered SRV endpoints");
    let (verified, errors) = verify(found, &domain, trusted_ca)?;
    let endpoints = urls(&verified);
    if errors.is_empty() {
        let message = "using validated discovered SRV endpoints";
        tracing::info!("srv-server" = domain, ?endpoints, "{message}");
    } else {
        let error = errors.join(",");
        let message = "failed to validate discovered endpoints";
        tracing::warn!("srv-server" = domain, ?endpoints, error, "{message}");
    }
    Ok(verified)
}

fn urls(endpoints: &[ClientEndpoint]) -> Vec<&str> {
    endpoints.iter().map(|endpoint| &*endpoint.url).collect()
}

/// The endpoints whose certificates are valid for the domain, and why others are not used.
fn verify(
    found: Vec<ClientEndpoint>,
    domain: &str,
    trusted_ca: &str,
) -> Result<(Vec<ClientEndpoint>, Vec<String>), String> {
    let tls = ClientTls::new(ClientOptions {
        trusted_ca: (!trusted_ca.is_empty()).then(|| trusted_ca.into()),
        server_name: Some(domain.trim_end_matches('.').to_owned()),
        ..ClientOptions::default()
    });
    let tls = tls.map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let (mut verified, mut errors) = (Vec::new(), Vec::new());
    for endpoint in found {
        let url = &endpoint.url;
        let Some(address) = url.strip_prefix("https://") else {
            errors.push(format!("{url:?} is insecure"));
            continue;
        };
        let shaking = async {
            let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
            let secured = tls.connect(stream, domain).await;
            secured.map(drop).map_err(|error| error.to_string())
        };
        let limited = async { tokio::time::timeout(VERIFY_TIME_MAX, shaking).await };
        let result = runtime.block_on(limited);
        match result.unwrap_or_else(|_| Err("i/o timeout".to_owned())) {
            Ok(()) => verified.push(endpoint),
            Err(why) => errors.push(format!("{url:?} failed to dial ({why})")),
        }
    }
    Ok((verified, errors))
}

/// Refuses endpoints whose host has the address that the gateway listens on.
fn refuse_loop(listen: &str, remotes: &[Remote]) -> Result<(), String> {
    let Some((host, port)) = listen.rsplit_once(':') else {
        return Err(format!("failed to validate listen address: {listen}"));
    };
    let port = port.parse::<u16>();
    let port = port.map_err(|_| format!("failed to validate listen address: {listen}"))?;
    let host = if host.is_empty() { "0.0.0.0" } else { host.trim_matches(['[', ']']) };
    let own: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .map_err(|_| format!("failed to resolve listen host: {host}"))?
        .collect();
    for remote in remotes {
        let address = &remote.address;
        let theirs = address.to_socket_addrs().map_err(|_| {
            let host = address.rsplit_once(':').map_or(&**address, |(host, _)| host);
            format!("failed to resolve endpoint host: {host}")
        })?;
        for their in theirs {
            if own.iter().any(|own| leads_back(*own, their)) {
                return Err(format!(
                    "SRV or endpoint ({address}->{their}) should not resolve to the gateway listen \
                     addr ({listen})"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cli::Invocation;

    fn flags(words: &[&str]) -> Flags {
        let words: Vec<Vec<u8>> =
            ["gateway", "start"].iter().chain(words).map(|word| word.as_bytes().to_vec()).collect();
        let Invocation::Run(parsed) = cli::parse(&crate::commands::ROOT, &words) else {
            panic!("it is a command")
        };
        parsed.flags
    }

    fn given(endpoints: &str) -> Result<Vec<String>, String> {
        let flags = flags(&[&format!("--endpoints={endpoints}")]);
        let remotes = remotes(&flags, &Resolver::parse(""))?;
        Ok(remotes.into_iter().map(|remote| remote.address).collect())
    }

    #[test]
    fn endpoints_lose_their_scheme_and_need_a_port() {
        let all = given("a:1,http://b:2,https://c:3/x,[::1]:4").unwrap();
        assert_eq!(all, ["a:1", "b:2", "c:3", "[::1]:4"]);
        assert_eq!(given("a:1,b").unwrap_err(), "error parsing endpoint \"b\"");
        assert_eq!(given("").unwrap_err(), "no endpoints found");
    }

    #[test]
    fn a_gateway_that_would_connect_to_itself_is_refused() {
        let check = |listen: &str, endpoint: &str| {
            let address = endpoint.to_owned();
            refuse_loop(listen, &[Remote { address, priority: 0, weight: 0 }])
        };
        for (listen, endpoint) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("localhost:1", "127.0.0.1:1"),
            ("0.0.0.0:1", "localhost:1"),
            (":1", "127.0.0.1:1"),
            ("[::]:1", "127.0.0.1:1"),
        ] {
            let error = check(listen, endpoint).unwrap_err();
            assert!(error.starts_with(&format!("SRV or endpoint ({endpoint}->")), "{error}");
            assert!(error.ends_with(&format!("gateway listen addr ({listen})")), "{error}");
        }
        assert_eq!(check("127.0.0.1:1", "127.0.0.1:2"), Ok(()));
        assert_eq!(check("0.0.0.0:1", "192.0.2.1:1"), Ok(()));
        let bad = check("127.0.0.1", "127.0.0.1:2").unwrap_err();
        assert_eq!(bad, "failed to validate listen address: 127.0.0.1");
    }
}

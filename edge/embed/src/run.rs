//! The life cycle of a server: bind the ports, open the data, serve, and stop in order on a signal.
//!
//! - **Invariant:** every port is bound before the data is touched, so that a port that is taken
//!   changes nothing.
//! - **Invariant:** no client is served before the member knows a leader and has published its name
//!   in the cluster. The peers' port is served before, since it takes the other members to elect one.
//!
//! Source: etcd server/embed/etcd.go and server/etcdmain/etcd.go @ v3.7.1.

mod banner;
mod bootstrap;
mod failure;
mod options;
mod records;

use crate::certificates::Certificates;
use crate::config::Config;
use crate::connections::{Clients, Place};
use crate::corruption;
use crate::listening::{self, Port};
use crate::peers::{self, ToMember, ToPeers};
use crate::status::{MemberStatus, MetricsPort, PeerPort};
use crate::{defragmentation, profiles, promotion, system};
use api::{Authenticator, Traffic};
use executor::{Booted, Founding};
use failure::StartFailure;
use net::limits::PlacesOfPorts;
use net::tls::{Security, ServerTls};
use net::{AcceptedSocket, Acceptor, Listener, Seats, Url, plain};
use nix::sys::signal::Signal;
use peer::{Dialer, Transport};
use proto::NodeId;
use records::CallRecords;
use server::metrics::Metrics;
use server::{Handle, Running};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use vfs::Vfs;

/// How long open requests may take after the signal to stop.
const GRACE: Duration = Duration::from_millis(500);
/// The permissions of a data directory.
const DIR_MODE: u32 = 0o700;
/// The polling interval for the start and the end of the member.
const POLL: Duration = Duration::from_millis(2);

/// Why the server stops.
#[derive(Debug)]
enum StopCause {
    Signal(Signal),
    Member(Result<(), String>),
}

/// Every listening socket of the server.
struct Listeners {
    peers: Vec<(Listener, Security)>,
    clients: Vec<(Listener, Security, Traffic)>,
    metrics: Vec<(Listener, Security)>,
    certificates: Certificates,
}

/// A server that serves.
struct Serving {
    handle: Handle,
    /// The way to the other members.
    transport: Arc<Transport>,
    clients: Vec<Acceptor>,
    others: Vec<Acceptor>,
    peers: plain::Server,
    metrics: plain::Server,
    stop: watch::Sender<bool>,
    /// The connections of clients.
    seats: Arc<Seats>,
    stop_causes: mpsc::Receiver<StopCause>,
    /// What has ended the wait for a leader.
    early_stop: Option<StopCause>,
    records: CallRecords,
}

/// Serves until a signal or a fault. Returns the exit code 1 after a fault, and 0 after the member
/// was removed from the cluster. After a signal the process ends by that signal's default action;
/// the init process of a container returns 0.
pub fn run(config: &Config) -> u8 {
    if let Err(error) = log_directory_kind(&config.member.data_dir) {
        tracing::error!(level = "fatal", dir = %config.member.data_dir.display(), error, "failed to list data directory");
        return 1;
    }
    let mut serving = match start(config) {
        Ok(serving) => serving,
        Err(failure) => {
            failure.log(&config.member.data_dir.join("member").join("snap").join("db"));
            return 1;
        }
    };
    match serving.early_stop.take().map_or_else(|| serving.stop_causes.recv(), Ok) {
        Ok(StopCause::Signal(signal)) => {
            let name = system::signal_name(signal);
            tracing::info!(signal = name, "received signal; shutting down");
            let clean = shut_down(config, serving);
            if clean {
                system::terminate_by(signal);
            }
            u8::from(!clean)
        }
        Ok(StopCause::Member(Err(error))) => {
            tracing::error!(level = "fatal", error, "the member cannot go on");
            1
        }
        Ok(StopCause::Member(Ok(()))) => 0,
        Err(_) => 1,
    }
}

/// Logs the kind of the data directory.
fn log_directory_kind(dir: &Path) -> Result<(), String> {
    let data_dir = dir.display().to_string();
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let message = "Initialize and start etcd server";
            tracing::info!("data-dir" = data_dir, "dir-type" = "empty", "{message}");
            return Ok(());
        }
        Err(error) => return Err(crate::logging::plain(&error)),
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    warn_of_permissions(dir);
    if names.iter().any(|name| name == "proxy") {
        return Err(
            "the directory holds data of the v2 proxy, which has been removed in 3.6".to_owned()
        );
    }
    for filename in names.iter().filter(|name| *name != "member") {
        tracing::warn!(filename, "data-dir" = data_dir, "found invalid file under data directory");
    }
    if names.iter().any(|name| name == "member") {
        let message = "server has already been initialized";
        tracing::info!("data-dir" = data_dir, "dir-type" = "member", "{message}");
    } else {
        let message = "Initialize and start etcd server";
        tracing::info!("data-dir" = data_dir, "dir-type" = "empty", "{message}");
    }
    Ok(())
}

/// Warns of a data directory that others may enter, in etcd's words (client/pkg/fileutil
/// `CheckDirPermission`). A directory that the server makes is only for its owner.
fn warn_of_permissions(dir: &Path) {
    let Ok(data) = std::fs::metadata(dir) else { return };
    let mode = data.permissions().mode() & 0o777;
    if mode != DIR_MODE {
        let error = format!(
            "directory {:?} exist, but the permission is \"d{}\". The recommended permission is \
             \"-{}\" to prevent possible unprivileged access to the data",
            dir.display().to_string(),
            letters(mode),
            letters(DIR_MODE),
        );
        tracing::warn!(error, "check file permission");
    }
}

/// Permissions as `ls` shows them.
fn letters(mode: u32) -> String {
    let letter = |at: u32| match (mode >> (8 - at) & 1, at % 3) {
        (0, _) => '-',
        (_, 0) => 'r',
        (_, 1) => 'w',
        (_, _) => 'x',
    };
    (0..9).map(letter).collect()
}

/// Binds, opens and starts everything.
fn start(config: &Config) -> Result<Serving, StartFailure> {
    let fds = prepare_process(config)?;
    let listeners = bind_all(config)?;
    let authenticator = Arc::new(authenticator(config)?);
    let disk = options::disk(config);
    let has_data = options::has_data(&disk, config)?;
    let config = &bootstrap::with_members(config, has_data)?;
    let dialer = listening::dialer(config)?;
    let (members, founding) = options::founding(config, has_data, &dialer)?;
    banner::starting(config, members.as_ref(), has_data);
    let metrics = Arc::new(Metrics::new(config.monitoring.has_extensive_metrics));
    let status = Arc::new(MemberStatus::new(
        Arc::clone(&metrics),
        config.member.request_timeout(),
        listeners.certificates.clone(),
    ));
    let booted = open_data(config, &disk, founding, (has_data, &dialer))?;
    let defragments = defragmentation::is_due(config, &booted.backend.view());
    options::describe(config, &metrics);
    banner::bcrypt_cost(config);
    let (stop, stopping) = watch::channel(false);
    let places = places(fds);
    let seats = Seats::new(places.clients);
    let port = PeerPort { status: Arc::clone(&status), authenticator: Arc::clone(&authenticator) };
    let records = CallRecords::open(config, &metrics)?;
    let limits = options::api_limits(config, &records);
    let has_profiles = config.monitoring.has_profiles;
    let status_of_clients = Arc::clone(&status);
    let clients =
        Clients { status: status_of_clients, limits, authenticator, has_profiles, stopping };
    let no_thread = |e: std::io::Error| format!("cannot start the server's threads: {e}");
    let to_member = Arc::new(ToMember::default());
    let transport_options = options::transport(config, &booted, &disk, &metrics, &dialer);
    let transport = Transport::start(transport_options, to_member.clone()).map_err(no_thread)?;
    let transport = Arc::new(transport);
    let to_peers = ToPeers {
        transport: Arc::clone(&transport),
        member: booted.metadata.node,
        to_member: Arc::clone(&to_member),
        raises_version: booted.raises_version,
    };
    status.set_announcement(booted.announced_version, booted.raises_version);
    let server_options = options::server(config, &metrics, &dialer);
    let running =
        server::start(disk, booted, server_options, Arc::new(clients), Arc::new(to_peers))
            .map_err(no_thread)?;
    let handle = running.handle();
    to_member.set(handle.clone());
    status.set(handle.clone());
    peers::watch_versions(handle.clone(), dialer.clone()).map_err(no_thread)?;
    corruption::watch(port.clone(), dialer, options::check_times(config)).map_err(no_thread)?;
    if config.limits.promotes_learners {
        promotion::watch(port.clone()).map_err(no_thread)?;
    }
    if defragments {
        defragmentation::begin(handle.clone()).map_err(no_thread)?;
    }
    listeners.certificates.clone().watch().map_err(no_thread)?;
    let stop_causes = watch_for_stop(running).map_err(no_thread)?;
    let member = StartedMember { handle, transport, stop, seats, stop_causes, records };
    serve(config, port, member, (listeners, places.plain))
}

/// The limit of file descriptors, which is raised as far as it goes.
fn fd_limit() -> Result<u64, String> {
    let fds =
        system::raise_fd_limit().map_err(|e| format!("cannot read the limit of files: {e}"))?;
    if fds <= system::FDS_RESERVED {
        return Err(format!(
            "file descriptor limit of etcd process is too low; please set higher (limit {fds}, \
             recommended {})",
            system::FDS_RESERVED
        ));
    }
    Ok(fds)
}

fn authenticator(config: &Config) -> Result<Authenticator, String> {
    let auth = &config.member.auth;
    Authenticator::new(auth.bcrypt_cost, &auth.tokens, config.limits.users)
        .inspect_err(|error| tracing::warn!(error, "failed to create token provider"))
}

/// Blocks the signals that stop the server, raises the limit of open files and returns it, and locks
/// the memory if the configuration says so.
fn prepare_process(config: &Config) -> Result<u64, StartFailure> {
    system::block_signals().map_err(|e| format!("cannot block signals: {e}"))?;
    let fds = fd_limit()?;
    if config.member.storage.locks_memory {
        system::lock_memory().map_err(StartFailure::Memory)?;
    }
    Ok(fds)
}

/// Opens the data, or creates it. With the gate `InitialCorruptCheck`, compares it with the data of the
/// other members.
fn open_data(
    config: &Config,
    disk: &Arc<dyn Vfs>,
    founding: Option<Founding>,
    (has_data, dialer): (bool, &Dialer),
) -> Result<Booted, StartFailure> {
    let started = Instant::now();
    let boot_options = options::boot(config, founding);
    let mut booted = server::boot(disk, &boot_options).map_err(StartFailure::Data)?;
    banner::opened(config, &booted, started.elapsed());
    if has_data && config.gates.enabled("InitialCorruptCheck") {
        corruption::check_at_start(&mut booted, dialer, config.member.request_timeout())
            .inspect_err(|error| tracing::error!(error, "checkInitialHashKV failed"))?;
    }
    Ok(booted)
}

/// A member that runs and is not served yet.
struct StartedMember {
    handle: Handle,
    transport: Arc<Transport>,
    stop: watch::Sender<bool>,
    seats: Arc<Seats>,
    stop_causes: mpsc::Receiver<StopCause>,
    records: CallRecords,
}

/// The places for connections within the limit of files, less what the server itself needs.
fn places(fds: u64) -> PlacesOfPorts {
    let free = fds.saturating_sub(system::FDS_RESERVED);
    PlacesOfPorts::within(usize::try_from(free).unwrap_or(usize::MAX))
}

fn bind_all(config: &Config) -> Result<Listeners, StartFailure> {
    let texts = |urls: &[Url]| urls.iter().map(Url::to_string).collect::<Vec<_>>();
    let peers = texts(&config.urls.listen_peer);
    tracing::info!("listen-peer-urls" = ?peers, "configuring peer listeners");
    let peers = bind(config, Port::Peers)?;
    let clients = texts(&config.urls.listen_client);
    tracing::info!("listen-client-urls" = ?clients, "configuring client listeners");
    if config.monitoring.has_profiles {
        tracing::info!(path = profiles::PREFIX, "pprof is enabled");
    }
    let (clients, client_tls) = bind_clients(config)?;
    let (metrics, _) = bind(config, Port::Metrics)?;
    let (peers, peer_tls) = peers;
    let mut ports = Vec::new();
    for (port, tls) in [(Port::Clients, client_tls), (Port::Peers, peer_tls)] {
        ports.extend(tls.map(|tls| (port.name(), tls)));
    }
    Ok(Listeners { peers, clients, metrics, certificates: Certificates::new(ports) })
}

/// The listeners of a port, and its TLS.
type Bound = (Vec<(Listener, Security)>, Option<Arc<ServerTls>>);
/// The listeners for clients with what they serve, and their TLS.
type BoundClients = (Vec<(Listener, Security, Traffic)>, Option<Arc<ServerTls>>);

/// Binds the URLs for clients.
fn bind_clients(config: &Config) -> Result<BoundClients, StartFailure> {
    let urls = &config.urls;
    let is_shared = |http: &&Url| {
        urls.listen_client.iter().any(|url| listening::place(url) == listening::place(http))
    };
    if let Some(url) = urls.listen_client_http.iter().find(is_shared) {
        return Err(StartFailure::Other(format!(
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url \
             {url}"
        )));
    }
    let (bound, tls) = bind(config, Port::Clients)?;
    let with_traffic = bound.into_iter().map(|(listener, security)| {
        let traffic = listening::traffic(config, listener.url());
        (listener, security, traffic)
    });
    Ok((with_traffic.collect(), tls))
}

/// Binds the URLs of a port. URLs with the same address share a listener.
fn bind(config: &Config, port: Port) -> Result<Bound, StartFailure> {
    let expected = listening::listening(config, port)?;
    let mut addresses: BTreeMap<(bool, String), Vec<&Url>> = BTreeMap::new();
    for url in port.urls(config) {
        addresses.entry(listening::place(url)).or_default().push(url);
    }
    let bound = addresses.into_values().map(|urls| {
        let listener = Listener::bind(urls[0], config.urls.sockets);
        let listener = listener.map_err(|error| StartFailure::Port(port.name(), error))?;
        Ok((listener, expected.security(&urls)))
    });
    let bound: Result<Vec<_>, StartFailure> = bound.collect();
    Ok((bound?, expected.tls()))
}

/// Starts two threads: one waits for the end of the member, the other for a signal.
fn watch_for_stop(running: Running) -> std::io::Result<mpsc::Receiver<StopCause>> {
    // One message from each of the two threads.
    let (to, stop_causes) = mpsc::sync_channel(2);
    let member = to.clone();
    std::thread::Builder::new().name("member-end".to_owned()).spawn(move || {
        send_cause(&member, StopCause::Member(running.wait()));
    })?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        match system::wait_for_signal() {
            Ok(signal) => send_cause(&to, StopCause::Signal(signal)),
            Err(error) => tracing::error!(%error, "cannot wait for signals"),
        }
    })?;
    Ok(stop_causes)
}

fn send_cause(to: &mpsc::SyncSender<StopCause>, cause: StopCause) {
    if to.send(cause).is_err() {
        tracing::debug!("the server has ended already");
    }
}

/// Accepts connections: of members at once, of clients when the member can serve them.
fn serve(
    config: &Config,
    port: PeerPort,
    member: StartedMember,
    (listeners, plain_places): (Listeners, usize),
) -> Result<Serving, StartFailure> {
    let StartedMember { handle, transport, stop, seats, stop_causes, records } = member;
    let failed = |e: std::io::Error| format!("cannot serve: {e}");
    let handler = Arc::new(MetricsPort(Arc::clone(&port.status)));
    let metrics = plain::Server::start("metrics", handler, plain_places).map_err(failed)?;
    let handler = Arc::new(transport.service(Arc::new(port)));
    let peers = plain::Server::start("peer", handler, plain_places).map_err(failed)?;
    let mut others = Vec::new();
    for (listener, security) in listeners.peers {
        tracing::info!(address = listener.url().address(), "serving peer traffic");
        others.push(listener.accept(peers.sink(security)).map_err(failed)?);
    }
    for (listener, security) in listeners.metrics {
        tracing::info!(address = listener.url().address(), "serving metrics");
        others.push(listener.accept(metrics.sink(security)).map_err(failed)?);
    }
    let early_stop = wait_until_ready(&handle, &options::attributes(config), &stop_causes);
    let clients = match early_stop {
        None => serve_clients(config, &handle, &seats, listeners.clients).map_err(failed)?,
        Some(_) => Vec::new(),
    };
    Ok(Serving {
        handle,
        transport,
        clients,
        others,
        peers,
        metrics,
        stop,
        seats,
        stop_causes,
        early_stop,
        records,
    })
}

/// Accepts connections of clients, and tells the service manager so.
fn serve_clients(
    config: &Config,
    handle: &Handle,
    seats: &Arc<Seats>,
    listeners: Vec<(Listener, Security, Traffic)>,
) -> std::io::Result<Vec<Acceptor>> {
    banner::published(config, handle);
    let mut clients = Vec::new();
    tracing::info!("ready to serve client requests");
    for (listener, security, kind) in listeners {
        let traffic = kind.name();
        let address = listener.url().address();
        if matches!(security, Security::Plain | Security::Either(_)) {
            let message = "serving client traffic insecurely; this is strongly discouraged!";
            tracing::info!(traffic, address, "{message}");
        }
        if matches!(security, Security::Tls(_) | Security::Either(_)) {
            tracing::info!(traffic, address, "serving client traffic securely");
        }
        let sink = client_sink(handle.clone(), Arc::clone(seats), (security, kind))?;
        clients.push(listener.accept(sink)?);
    }
    system::log_ready();
    Ok(clients)
}

/// Where the connections of a clients' port go. Each waits for its place.
fn client_sink(
    handle: Handle,
    seats: Arc<Seats>,
    (security, traffic): (Security, Traffic),
) -> std::io::Result<impl Fn(AcceptedSocket) + Send + 'static> {
    let waiting = tokio::runtime::Builder::new_current_thread().build()?;
    Ok(move |socket| {
        if let Some(seat) = waiting.block_on(seats.take()) {
            let security = security.clone();
            handle.accept(Box::new(Place { socket, seat, security, traffic }));
        }
    })
}

/// Waits until the member knows a leader, and its attributes are published in the cluster. (A
/// restored directory has the name already, but not the client URLs.) This takes as long as there is
/// no quorum; a signal, or the end of the member, ends it.
fn wait_until_ready(
    handle: &Handle,
    attributes: &cluster::Attributes,
    stop_causes: &mpsc::Receiver<StopCause>,
) -> Option<StopCause> {
    let me = handle.identity().member;
    loop {
        if let Ok(cause) = stop_causes.try_recv() {
            return Some(cause);
        }
        let moment = handle.moment();
        let cluster = &moment.published.cluster;
        let is_published =
            cluster.member(me).is_some_and(|member| member.attributes() == *attributes);
        // The only member is ready when it can answer linearizable reads.
        let has_leader = moment.is_linearizable()
            || moment.leadership.leader != NodeId::NONE && !moment.is_sole_member();
        if has_leader && is_published && cluster.version().is_some() {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

/// Stops in order; returns true if all applied entries are in the files.
fn shut_down(config: &Config, mut serving: Serving) -> bool {
    banner::end(config, "closing etcd server");
    // An acceptor may wait for a place.
    serving.seats.close();
    for acceptor in &mut serving.clients {
        acceptor.stop();
    }
    if serving.stop.send(true).is_err() {
        tracing::debug!("no worker is left");
    }
    let deadline = Instant::now() + GRACE;
    while serving.seats.taken() > 0 && Instant::now() < deadline {
        std::thread::sleep(POLL);
    }
    peers::hand_over_leadership(
        &serving.handle,
        &serving.transport,
        config.member.election_timeout(),
    );
    serving.handle.stop();
    let clean = loop {
        match serving.stop_causes.recv() {
            Ok(StopCause::Member(Ok(()))) => break true,
            Ok(StopCause::Member(Err(error))) => {
                tracing::error!(error, "the member ended with a fault");
                break false;
            }
            // A second signal changes nothing.
            Ok(StopCause::Signal(_)) => {}
            Err(_) => break false,
        }
    };
    for acceptor in &mut serving.others {
        tracing::info!(address = acceptor.address(), "stopping serving peer traffic");
        acceptor.stop();
        tracing::info!(address = acceptor.address(), "stopped serving peer traffic");
    }
    serving.peers.stop();
    serving.metrics.stop();
    serving.records.flush();
    banner::end(config, "closed etcd server");
    clean
}

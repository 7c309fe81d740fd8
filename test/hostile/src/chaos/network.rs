//! The network between the members. Each member reaches the others through proxies, so that every
//! direction between two members can be made silent or broken. A proxy finds out which member has
//! dialed by the process that owns the socket.

use anyhow::{Context as _, Result};
use std::io::{Error, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const BUFFER_BYTES: usize = 64 * 1024;
/// How often the owner of a connection is looked up. Just after a start, the process id of the
/// member may not be recorded yet.
const LOOKS_MAX: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// The state of one direction between two members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Bytes arrive.
    Open,
    /// Bytes are held, and arrive when the direction is open again, as with TCP's retransmissions.
    Silent,
    /// Connections are reset, in both directions, and new ones too.
    Broken,
}

/// The directions between members. Members are numbered from 0.
#[derive(Debug)]
pub(super) struct Network {
    flows: Vec<Vec<watch::Sender<Flow>>>,
    processes: Mutex<Vec<Option<u32>>>,
}

/// One proxy.
#[derive(Clone, Debug)]
struct Proxy {
    to: usize,
    port: u16,
    target: u16,
    network: Arc<Network>,
}

impl Network {
    /// Starts a proxy for each member, which listens on the first port and connects to the second
    /// one. The ports are free again once the tasks have ended.
    pub(super) async fn start(ports: &[(u16, u16)]) -> Result<(Arc<Network>, JoinSet<()>)> {
        let mut listening = JoinSet::new();
        let count = ports.len();
        let open = |_| (0..count).map(|_| watch::Sender::new(Flow::Open)).collect();
        let network = Arc::new(Network {
            flows: (0..count).map(open).collect(),
            processes: Mutex::new(vec![None; count]),
        });
        for (to, &(port, target)) in ports.iter().enumerate() {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
            let listener = listener.with_context(|| format!("port {port}"))?;
            let proxy = Proxy { to, port, target, network: Arc::clone(&network) };
            listening.spawn(proxy.listen(listener));
        }
        Ok((network, listening))
    }

    /// Sets the process id of a member.
    pub(super) fn is_process(&self, member: usize, pid: Option<u32>) {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)[member] = pid;
    }

    /// Sets the state of one direction.
    pub(super) fn set(&self, from: usize, to: usize, flow: Flow) {
        self.flows[from][to].send_replace(flow);
    }

    /// Opens all directions.
    pub(super) fn heal(&self) {
        for flow in self.flows.iter().flatten() {
            flow.send_replace(Flow::Open);
        }
    }

    fn flow(&self, from: usize, to: usize) -> watch::Receiver<Flow> {
        self.flows[from][to].subscribe()
    }
}

impl Proxy {
    async fn listen(self, listener: TcpListener) {
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let proxy = self.clone();
            tokio::spawn(async move {
                // On an error both connections are closed, so both ends notice it.
                drop(proxy.carry(stream, from).await);
            });
        }
    }

    async fn carry(&self, near: TcpStream, remote: SocketAddr) -> Result<(), Error> {
        reset_when_dropped(&near)?;
        let from = self.owner(remote.port()).await.ok_or(ErrorKind::NotFound)?;
        let (mut there, mut back) =
            (self.network.flow(from, self.to), self.network.flow(self.to, from));
        // A handshake needs both directions.
        pass(&mut there).await?;
        pass(&mut back).await?;
        let far = TcpStream::connect((Ipv4Addr::LOCALHOST, self.target)).await?;
        reset_when_dropped(&far)?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        tokio::try_join!(pump(near_read, far_write, there), pump(far_read, near_write, back))?;
        Ok(())
    }

    /// The member that has dialed from this port.
    async fn owner(&self, port: u16) -> Option<usize> {
        for _ in 0..LOOKS_MAX {
            let processes =
                self.network.processes.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let to = self.port;
            let look = move || {
                let inode = inode(port, to)?;
                processes.iter().position(|pid| pid.is_some_and(|pid| owns(pid, &inode)))
            };
            if let Ok(Some(member)) = tokio::task::spawn_blocking(look).await {
                return Some(member);
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }
}

/// Makes the socket send a reset when it is dropped. Waiting bytes are then lost.
fn reset_when_dropped(stream: &TcpStream) -> Result<(), Error> {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// The inode of the socket on this machine with these two ports.
///
/// Source: proc(5), `/proc/net/tcp`.
fn inode(local: u16, remote: u16) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let (local, remote) = (format!(":{local:04X}"), format!(":{remote:04X}"));
    table.lines().find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_it = columns.get(1)?.ends_with(&local) && columns.get(2)?.ends_with(&remote);
        is_it.then(|| columns.get(9).map(|inode| format!("socket:[{inode}]")))?
    })
}

fn owns(pid: u32, socket: &str) -> bool {
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut links = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
    links.any(|link| link == Path::new(socket))
}

/// Waits until the direction is open.
async fn pass(flow: &mut watch::Receiver<Flow>) -> Result<(), Error> {
    let now = flow.wait_for(|now| *now != Flow::Silent).await.map(|now| *now);
    if now.is_ok_and(|now| now == Flow::Open) { Ok(()) } else { Err(broken()) }
}

fn broken() -> Error {
    ErrorKind::ConnectionReset.into()
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut flow: watch::Receiver<Flow>,
) -> Result<(), Error> {
    let mut cut = flow.clone();
    let moving = async {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = from.read(&mut buffer).await?;
            pass(&mut flow).await?;
            if count == 0 {
                return to.shutdown().await;
            }
            to.write_all(&buffer[..count]).await?;
        }
    };
    tokio::select! {
        moved = moving => moved,
        _ = cut.wait_for(|now| *now == Flow::Broken) => Err(broken()),
    }
}

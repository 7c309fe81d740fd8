//! Three members, and a small load.

use anyhow::ensure;
use client::{Client, Config};
use proto::etcdserverpb as pb;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The pause between two rounds of the load.
const PAUSE: Duration = Duration::from_millis(50);

/// A member; dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Member {
    child: Child,
    /// For clients.
    pub(crate) address: String,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Starts the members, and waits until they serve.
pub(crate) fn start(program: &Path, folder: &Path) -> anyhow::Result<Vec<Member>> {
    let mut places = Vec::new();
    for name in ["a", "b", "c"] {
        let address = || Ok::<_, std::io::Error>(format!("127.0.0.1:{}", ports::free()?));
        places.push((name, address()?, address()?));
    }
    let listed: Vec<String> =
        places.iter().map(|(name, _, peer)| format!("{name}=http://{peer}")).collect();
    let mut members = Vec::new();
    for (name, address, peer) in places {
        let (client, peer) = (format!("http://{address}"), format!("http://{peer}"));
        let child = Command::new(program)
            .arg("--data-dir")
            .arg(folder.join(name))
            .args(["--name", name, "--initial-cluster", &listed.join(",")])
            // One of the alerts is about the duration of calls.
            .args(["--metrics", "extensive"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .stderr(Stdio::piped())
            .spawn()?;
        members.push(Member { child, address });
    }
    for member in &mut members {
        let Some(log) = member.child.stderr.take() else { continue };
        let mut lines = BufReader::new(log).lines().map_while(Result::ok);
        ensure!(lines.any(|line| line.contains("notified init daemon")), "a member has ended");
        // Keep reading, so that the member does not block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
    }
    Ok(members)
}

/// Puts and reads at each member, with a watch and a lease, until it is dropped. Failed requests are a
/// part of it.
pub(crate) async fn load(addresses: Vec<String>) -> anyhow::Result<()> {
    let mut clients = Vec::new();
    let mut open = Vec::new();
    for address in addresses {
        let client = Client::connect(Config::new(vec![address])).await?;
        let key = || "k".into();
        open.push(client.watch(pb::WatchCreateRequest { key: key(), ..Default::default() }).await);
        clients.push(client.with_timeout(Duration::from_secs(1)));
    }
    loop {
        for client in &clients {
            let put = pb::PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
            let range = pb::RangeRequest { key: "k".into(), ..Default::default() };
            let lease = pb::LeaseGrantRequest { ttl: 60, id: 0 };
            let future = pb::RangeRequest { revision: i64::MAX, ..range.clone() };
            client.put(put).await.ok();
            client.range(range).await.ok();
            // A revision of the future is refused.
            client.range(future).await.ok();
            if let Ok(lease) = client.lease_grant(lease).await {
                client.keep_alive_once(lease.id).await.ok();
                client.lease_revoke(pb::LeaseRevokeRequest { id: lease.id }).await.ok();
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

//! etcd's alerts and its Grafana dashboard find data: every metric that their expressions name is
//! served with the labels that they name, and shows a small load of two members.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use client::{Client, Config};
use proto::etcdserverpb as pb;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a metric may take to reach its value: connections to members are probed from time to time.
const TIME_MAX: Duration = Duration::from_secs(60);

/// A member; dropping it kills the process.
struct Member {
    child: Child,
    address: String,
}

impl Member {
    fn start(name: &str, data: &Path, (client, peer): (&str, &str), cluster: &str) -> Member {
        let (url, peer) = (format!("http://{client}"), format!("http://{peer}"));
        let child = Command::new(env!("CARGO_BIN_EXE_etcd"))
            .arg("--data-dir")
            .arg(data)
            .args(["--name", name, "--initial-cluster", cluster])
            // One of the alerts is about the duration of calls.
            .args(["--metrics", "extensive"])
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Member { child, address: client.to_owned() }
    }

    fn wait_until_ready(&mut self) {
        let mut lines = BufReader::new(self.child.stderr.take().unwrap()).lines();
        let serves = lines.any(|line| line.unwrap().contains("notified init daemon"));
        assert!(serves, "the server has ended");
        // Keep reading, so that the server does not block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
    }

    fn scrape(&self) -> Vec<Series> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        body.lines().filter(|line| !line.starts_with('#')).filter_map(Series::parse).collect()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// One row of `/metrics`.
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Series {
    fn parse(row: &str) -> Option<Series> {
        let (series, value) = row.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let pairs = labels.strip_suffix('}')?.split("\",").filter(|pair| !pair.is_empty());
        let labels = pairs.map(|pair| {
            let (name, value) = pair.split_once("=\"")?;
            Some((name.to_owned(), value.trim_end_matches('"').to_owned()))
        });
        let labels = labels.collect::<Option<_>>()?;
        Some(Series { name: name.to_owned(), labels, value: value.parse().ok()? })
    }
}

/// A metric of an expression.
struct Wanted {
    row: &'static str,
    name: &'static str,
    /// Labels, and the values of which one must be there.
    labels: Vec<(&'static str, Vec<&'static str>)>,
    must_count: bool,
}

impl Wanted {
    fn parse(row: &'static str) -> Wanted {
        let (series, rest) = row.split_once('}').unwrap();
        let (name, labels) = series.split_once('{').unwrap();
        let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
            let (name, values) = label.split_once('=').unwrap_or((label, ""));
            (name, values.split('|').filter(|value| !value.is_empty()).collect())
        });
        Wanted { row, name, labels: labels.collect(), must_count: rest.trim() == "> 0" }
    }

    fn is_shown_by(&self, series: &Series) -> bool {
        series.name == self.name
            && (!self.must_count || series.value > 0.0)
            && self.labels.iter().all(|(name, values)| {
                let found = series.labels.get(*name);
                found.is_some_and(|found| values.is_empty() || values.contains(&found.as_str()))
            })
    }
}

/// The rows that the members do not show.
fn missing(members: &[&Member]) -> Vec<&'static str> {
    let all: Vec<Series> = members.iter().flat_map(|member| member.scrape()).collect();
    let rows = include_str!("mixin.txt").lines().filter(|row| !row.starts_with('#'));
    let wanted: Vec<Wanted> = rows.map(Wanted::parse).collect();
    assert!(wanted.len() > 20, "the list is whole");
    let is_missing = |wanted: &&Wanted| !all.iter().any(|series| wanted.is_shown_by(series));
    wanted.iter().filter(is_missing).map(|wanted| wanted.row).collect()
}

async fn use_member(address: &str) {
    let client = Client::connect(Config::new(vec![address.to_owned()])).await.unwrap();
    let watch = pb::WatchCreateRequest { key: "k".into(), ..Default::default() };
    let mut watcher = client.watch(watch).await;
    let put = pb::PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
    client.put(put).await.unwrap();
    client.range(pb::RangeRequest { key: "k".into(), ..Default::default() }).await.unwrap();
    assert_eq!(watcher.next().await.unwrap().response.events.len(), 1);
    let lease = client.lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 7 }).await.unwrap().id;
    client.keep_alive_once(lease).await.unwrap();
}

#[tokio::test]
async fn every_alert_and_panel_of_etcd_finds_its_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let address = || format!("127.0.0.1:{}", ports::free().unwrap());
    let members = ["a", "b"].map(|name| (name, address(), address()));
    let listed = members.each_ref().map(|(name, _, peer)| format!("{name}=http://{peer}"));
    let [mut one, mut other] = members.each_ref().map(|(name, client, peer)| {
        Member::start(name, &folder.path().join(name), (client, peer), &listed.join(","))
    });
    one.wait_until_ready();
    other.wait_until_ready();
    use_member(&one.address).await;
    // What counts only with a member that cannot be reached.
    let later = |row: &&str| row.starts_with("etcd_network_peer_sent_failures_total");
    let shown = async {
        while !missing(&[&one]).iter().all(&later) {
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(TIME_MAX, shown).await.is_err() {
        panic!("empty: {:#?}", missing(&[&one]));
    }
    drop(other);
    let shown = async {
        while missing(&[&one]).iter().any(&later) {
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(TIME_MAX, shown).await.is_err() {
        panic!("empty without the other member: {:#?}", missing(&[&one]));
    }
}

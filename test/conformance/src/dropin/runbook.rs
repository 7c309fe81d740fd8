//! Runs the commands of a runbook: the marked blocks of a Markdown file. Each host is a directory.
//! A shell function `systemctl` starts and stops the etcd of a host.

use super::access::Access;
use super::picture::Picture;
use super::program::Program;
use crate::cluster::until_done;
use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use proto::etcdserverpb::PutRequest;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;
use tonic::transport::Endpoint;

/// The keys that every host must show after each block.
const KEYS: usize = 50;
/// The mark before a block.
const MARK: &str = "<!-- run: ";

/// Where a block is run.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// It is not run by itself: it sets the variables of the other blocks.
    Settings,
    /// On one host.
    Once,
    /// On each host, one after the other.
    EachHost,
    /// The same, but only if there are other members.
    EachHostOfCluster,
    /// On the host of a cluster of one.
    Single,
}

/// A block of commands.
#[derive(Clone, Debug)]
struct Block {
    line: usize,
    /// The heading above it.
    heading: String,
    place: Place,
    script: String,
}

/// The programs that a runbook moves between.
#[derive(Clone, Debug)]
pub struct Runbook {
    /// The Markdown file.
    pub file: PathBuf,
    /// The directory with our `etcd` and `etcdctl`.
    pub ours: PathBuf,
    /// Go's etcd.
    pub theirs: Program,
}

impl Runbook {
    /// Runs the blocks in a cluster of three, those that need no cluster for a single member, and those
    /// that are for a single member. Returns a report.
    ///
    /// # Errors
    /// The first command that fails, or a host whose keys changed.
    pub async fn run(&self) -> Result<String> {
        let text = std::fs::read_to_string(&self.file)
            .with_context(|| format!("cannot read {}", self.file.display()))?;
        let blocks = parse(&text)?;
        ensure!(blocks.iter().any(|block| block.place == Place::EachHost), "nothing to run");
        let mut ran = 0;
        for (hosts, is_single) in [(3, false), (1, false), (1, true)] {
            let world = World::start(self, hosts).await?;
            let before = world.pictures().await?;
            let is_run = |it: &&Block| match it.place {
                Place::Single => is_single,
                Place::EachHostOfCluster => hosts > 1,
                Place::Settings | Place::Once | Place::EachHost => !is_single,
            };
            for block in blocks.iter().filter(is_run) {
                let place = || format!("{}:{}", self.file.display(), block.line);
                ran += world.run(block).with_context(place)?;
                let now = world.pictures().await.with_context(place)?;
                for (before, now) in before.iter().zip(&now) {
                    let differences = before.data_differences(now);
                    ensure!(differences.is_empty(), "{}: {}", place(), differences.join("\n"));
                }
            }
        }
        Ok(format!(
            "{}: {ran} blocks run with {}; all hosts show the same keys and HashKV after each",
            self.file.display(),
            self.theirs.name
        ))
    }
}

/// The marked blocks. A mark `again: HEADING` repeats the blocks below that heading that run on
/// each host.
fn parse(text: &str) -> Result<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut heading, mut mark): (&str, Option<&str>) = ("", None);
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        if let Some(title) = line.strip_prefix("## ") {
            heading = title;
        } else if let Some(what) = line.strip_prefix(MARK) {
            let what = what.strip_suffix(" -->").context("a mark without its end")?;
            if let Some(of) = what.strip_prefix("again: ") {
                let is_again = |it: &&Block| it.heading == of && it.place == Place::EachHost;
                let again: Vec<Block> = blocks.iter().filter(is_again).cloned().collect();
                ensure!(!again.is_empty(), "line {number}: no blocks below {of:?}");
                blocks.extend(again);
            } else {
                mark = Some(what);
            }
        } else if line == "```sh" {
            let place = match mark.take() {
                Some("settings") => Place::Settings,
                Some("once") => Place::Once,
                Some("on each host") => Place::EachHost,
                Some("on each host of a cluster") => Place::EachHostOfCluster,
                Some("single") => Place::Single,
                Some(other) => bail!("line {number}: the mark {other:?} is unknown"),
                None => bail!("line {number}: a block of commands without a mark"),
            };
            let body: Vec<&str> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            let (heading, script) = (heading.to_owned(), body.join("\n"));
            blocks.push(Block { line: number, heading, place, script });
        }
    }
    Ok(blocks)
}

/// A host: a directory with the service's program, environment and data.
#[derive(Debug)]
struct Host {
    dir: PathBuf,
    url: String,
}

/// The hosts and the programs.
#[derive(Debug)]
struct World {
    hosts: Vec<Host>,
    /// The variables from the settings of the runbook.
    settings: String,
    root: TempDir,
}

/// The shell function `systemctl` of a host. A start runs the service in the background, and waits
/// until it answers a read, or is a learner, which answers none. A stop waits until it has ended.
const SYSTEMCTL: &str = r#"
is_learner() {
  ETCDCTL_ENDPOINTS="$OWN" "$NEW/etcdctl" endpoint status -w json 2>&1 | grep -q '"isLearner":true'
}
systemctl() {
  [ "$2" = etcd ] || { echo "systemctl $*?"; return 1; }
  case $1 in
    begin)
      (set -a; . "$CONF"; set +a; exec "$BIN/etcd") >> "$HOST/log" 2>&1 < /dev/null &
      echo $! > "$HOST/pid" ;;
    start)
      systemctl begin etcd
      for _ in $(seq 300); do
        ETCDCTL_ENDPOINTS="$OWN" "$NEW/etcdctl" get ready > /dev/null 2>&1 && return 0
        is_learner && return 0
        [ -e "/proc/$(cat "$HOST/pid")/exe" ] || break
        sleep 0.1
      done
      tail -n 5 "$HOST/log"; return 1 ;;
    stop)
      kill -TERM "$(cat "$HOST/pid")"
      while [ -e "/proc/$(cat "$HOST/pid")/exe" ]; do sleep 0.05; done ;;
    restart) systemctl stop etcd; systemctl start etcd ;;
    *) echo "systemctl $*?"; return 1 ;;
  esac
}
"#;

impl World {
    /// Hosts whose service is Go's etcd, with some keys.
    async fn start(book: &Runbook, count: usize) -> Result<World> {
        let root = TempDir::new()?;
        let (mut hosts, mut peers) = (Vec::new(), Vec::new());
        for number in 1..=count {
            let dir = root.path().join(format!("h{number}"));
            std::fs::create_dir_all(dir.join("bin"))?;
            let url = format!("http://127.0.0.1:{}", ports::free()?);
            peers.push(format!("http://127.0.0.1:{}", ports::free()?));
            hosts.push(Host { dir, url });
        }
        let names = peers.iter().enumerate().map(|(at, url)| format!("h{}={url}", at + 1));
        let cluster = names.collect::<Vec<_>>().join(",");
        let log = book.theirs.log_flags().first().map(|_| "ETCD_LOGGER=zap\n").unwrap_or_default();
        for (at, (host, peer)) in hosts.iter().zip(&peers).enumerate() {
            let (url, data) = (&host.url, host.dir.join("data").display().to_string());
            let conf = format!(
                "ETCD_NAME=h{}\nETCD_DATA_DIR={data}\nETCD_LISTEN_CLIENT_URLS={url}\n\
                 ETCD_ADVERTISE_CLIENT_URLS={url}\nETCD_LISTEN_PEER_URLS={peer}\n\
                 ETCD_INITIAL_ADVERTISE_PEER_URLS={peer}\nETCD_INITIAL_CLUSTER={cluster}\n{log}",
                at + 1
            );
            std::fs::write(host.dir.join("conf"), conf)?;
            std::fs::copy(&book.theirs.path, host.dir.join("bin/etcd"))?;
        }
        let old = root.path().join("old");
        std::fs::create_dir(&old)?;
        std::fs::copy(&book.theirs.path, old.join("etcd"))?;
        let urls: Vec<&str> = hosts.iter().map(|host| &*host.url).collect();
        let version: Vec<&str> = book.theirs.version.splitn(3, '.').take(2).collect();
        let settings = format!(
            "OLD={}\nNEW={}\nexport ETCDCTL_ENDPOINTS={}\nVERSION={}\n",
            old.display(),
            std::path::absolute(&book.ours)?.display(),
            urls.join(","),
            version.join(".")
        );
        let world = World { hosts, settings, root };
        for verb in ["begin", "stop", "begin"] {
            for host in &world.hosts {
                world.shell(host, &format!("systemctl {verb} etcd"))?;
            }
            if verb == "begin" {
                world.write().await?;
            }
        }
        Ok(world)
    }

    async fn write(&self) -> Result<()> {
        let host = &self.hosts[0];
        for number in 0..KEYS {
            let put = || async {
                let put = PutRequest {
                    key: format!("k/{number}").into(),
                    value: "kept".into(),
                    ..PutRequest::default()
                };
                Ok(host.access()?.kv.put(put).await.map(drop)?)
            };
            until_done("", put).await.with_context(|| host.last_lines())?;
        }
        Ok(())
    }

    /// The picture of each host at one revision.
    async fn pictures(&self) -> Result<Vec<Picture>> {
        let mut pictures = Vec::new();
        let revision = self.hosts[0].access()?.revision().await?;
        for host in &self.hosts {
            let taken = async {
                let access = host.access()?;
                access.revision().await?;
                Picture::take(&access, revision).await
            };
            pictures.push(taken.await.with_context(|| host.last_lines())?);
        }
        Ok(pictures)
    }

    /// Runs a block on its hosts. Returns the number of hosts.
    fn run(&self, block: &Block) -> Result<usize> {
        let hosts = match block.place {
            Place::Settings => {
                for name in ["OLD=", "NEW=", "BIN=", "CONF=", "DATA=", "export ETCDCTL_ENDPOINTS="]
                {
                    let is_set = block.script.lines().any(|line| line.starts_with(name));
                    ensure!(is_set, "the settings do not name {name}");
                }
                &self.hosts[..0]
            }
            Place::Once | Place::Single => &self.hosts[..1],
            Place::EachHost | Place::EachHostOfCluster => &self.hosts[..],
        };
        for host in hosts {
            self.shell(host, &block.script)?;
        }
        Ok(hosts.len())
    }

    /// Runs commands on a host until one fails.
    fn shell(&self, host: &Host, script: &str) -> Result<()> {
        let dir = host.dir.display();
        let text = format!(
            "set -euo pipefail\n{}HOST={dir}\nOWN={}\nBIN={dir}/bin\nCONF={dir}/conf\n\
             DATA={dir}/data\n{SYSTEMCTL}\ncd {}\n{script}\n",
            self.settings,
            host.url,
            self.root.path().display()
        );
        let output = Command::new("bash")
            .args(["-c", &text])
            .stdin(Stdio::null())
            .output()
            .context("cannot start bash")?;
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "on {dir}, {}:\n{script}\n{out}{err}", output.status);
        Ok(())
    }
}

impl Host {
    fn access(&self) -> Result<Access> {
        Ok(Access::open(Endpoint::from_shared(self.url.clone())?.connect_lazy()))
    }

    fn last_lines(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    /// The process, if it has not ended.
    fn pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.dir.join("pid")).ok()?;
        let pid: i32 = text.trim().parse().ok()?;
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        is_below(&program, &self.dir).then(|| Pid::from_raw(pid))
    }
}

/// Whether a process runs a program of this host. The process id may belong to another process by
/// now.
fn is_below(program: &Path, dir: &Path) -> bool {
    dir.canonicalize().is_ok_and(|dir| program.starts_with(dir))
}

impl Drop for World {
    fn drop(&mut self) {
        for pid in self.hosts.iter().filter_map(Host::pid) {
            if let Err(error) = nix::sys::signal::kill(pid, Signal::SIGKILL) {
                eprintln!("could not kill {pid}: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_run_where_their_mark_says() {
        let text = "## One\n<!-- run: on each host -->\n```sh\na\nb\n```\n## Two\n\
                    <!-- run: again: One -->\n<!-- run: once -->\n```sh\nc\n```\n";
        let blocks = parse(text).unwrap();
        let found: Vec<_> = blocks.iter().map(|it| (it.place.clone(), &*it.script)).collect();
        let each = (Place::EachHost, "a\nb");
        assert_eq!(found, [each.clone(), each, (Place::Once, "c")]);
    }

    #[test]
    fn commands_that_nobody_runs_are_refused() {
        for text in ["```sh\na\n```\n", "<!-- run: elsewhere -->\n```sh\na\n```\n"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

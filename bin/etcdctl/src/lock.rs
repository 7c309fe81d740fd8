//! `lock` and `elect`: they hold a lock or the leadership until a signal comes.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/{lock,elect}_command.go.

use crate::failure::{Code, CommandResult, Failure};
use crate::output;
use crate::session::Session;
use cli::go;
use cli::json::Object;
use cli::log::{Level, Line};
use client::{Client, Election, Mutex};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

const CANCELED: &str = "context canceled";

/// Takes a lock, and holds it until a signal comes or the given command has ended.
pub(crate) async fn lock(mut session: Session) -> CommandResult {
    let Some((name, command)) = session.args.split_first() else {
        let usage = "lock takes a lock name argument and an optional command to execute";
        return Err(Code::BadArgs.with(usage));
    };
    let (name, command) = (name.clone(), command.to_vec());
    let client = connected(&mut session).await?;
    let mut signals = Signals::new()?;
    let lease = match session.flags.int("ttl") {
        ttl @ 1.. => client::Session::with_ttl(&client, ttl).await?,
        _ => {
            warn_of_ttl();
            client::Session::new(&client).await?
        }
    };
    let mut mutex = Mutex::new(&lease, name);
    tokio::select! {
        biased;
        locked = mutex.lock() => locked?,
        () = signals.any() => {
            // Fails if the contender's key has not been written yet.
            _ = mutex.unlock().await;
            return Err(Code::Error.with(CANCELED));
        }
    }
    if !command.is_empty() {
        let (key, revision) = (mutex.key().to_vec(), mutex.revision());
        let ran = tokio::task::spawn_blocking(move || run(&command, &key, revision)).await;
        let unlocked = mutex.unlock().await;
        ran.unwrap_or_else(|failed| Err(Code::Error.with(failed)))?;
        return Ok(unlocked?);
    }
    let own = client.range(proto::etcdserverpb::RangeRequest {
        key: mutex.key().to_vec().into(),
        ..Default::default()
    });
    let own = own.await?;
    if own.kvs.is_empty() {
        return Err(Code::Error.with("lock lost on init"));
    }
    output::out(&session.printer.range(&own)?);
    tokio::select! {
        () = signals.any() => Ok(mutex.unlock().await?),
        () = lease.done() => Err(Code::Error.with("session expired")),
    }
}

/// Runs the command while the lock is held. Environment variables that are already set keep their
/// values.
fn run(command: &cli::Words, key: &[u8], revision: i64) -> CommandResult {
    let words: Vec<&OsStr> = command.iter().map(|word| OsStr::from_bytes(word)).collect();
    let mut process = std::process::Command::new(words[0]);
    process.args(&words[1..]).stdin(std::process::Stdio::null());
    let revision = revision.to_string();
    for (name, value) in [
        ("ETCD_LOCK_KEY", OsStr::from_bytes(key)),
        ("ETCD_LOCK_REV", OsStr::from_bytes(revision.as_bytes())),
    ] {
        if std::env::var_os(name).is_none() {
            process.env(name, value);
        }
    }
    let status = process.status().map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            let name = go::quote(&command[0]);
            Code::Error.with(format!("exec: {name}: executable file not found in $PATH"))
        } else {
            Code::Error.with(error)
        }
    })?;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Failure::of_command(code, format!("exit status {code}"))),
        (None, number) => {
            let name = signal_name(number.unwrap_or_default());
            Err(Failure::of_command(255, format!("signal: {name}")))
        }
    }
}

/// Go's name of a signal that ended a process.
fn signal_name(number: i32) -> String {
    let name = match number {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        6 => "aborted",
        9 => "killed",
        11 => "segmentation fault",
        13 => "broken pipe",
        15 => "terminated",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

fn warn_of_ttl() {
    output::log(&Line {
        level: Level::Warn,
        logger: "etcd-client",
        caller: concat!(file!(), ":", line!()),
        message: "WithTTL(): TTL should be > 0, preserving current TTL",
        fields: Object::zap().plain("current-session-ttl", 60),
    });
}

/// Takes part in an election, or prints its leaders.
pub(crate) async fn elect(mut session: Session) -> CommandResult {
    let listens = session.flags.bool("listen");
    let wrong = |why: &str| Err(Code::BadArgs.with(why));
    let (name, proposal) = match (&session.args[..], listens) {
        ([name], true) => (name.clone(), None),
        ([name, proposal], false) => (name.clone(), Some(proposal.clone())),
        ([_], false) => return wrong("no proposal argument but -l not set"),
        ([_, _], true) => return wrong("proposal given but -l is set"),
        _ => {
            return wrong(
                "elect takes one election name argument and an optional proposal argument",
            );
        }
    };
    let client = connected(&mut session).await?;
    let mut signals = Signals::new()?;
    let lease = client::Session::new(&client).await?;
    let mut election = Election::new(&lease, name);
    let Some(proposal) = proposal else {
        let mut leaders = election.observe();
        return tokio::select! {
            failure = async {
                loop {
                    match leaders.next().await {
                        Ok(leader) => output::out(&match session.printer.range(&leader) {
                            Ok(text) => text,
                            Err(failure) => return failure,
                        }),
                        Err(_) => return Code::Error.with("elect: observer lost"),
                    }
                }
            } => Err(failure),
            () = signals.any() => Ok(()),
        };
    };
    tokio::select! {
        biased;
        elected = election.campaign(proposal) => elected?,
        () = signals.any() => {
            election.resign().await?;
            return Err(Code::Error.with(CANCELED));
        }
    }
    output::out(&session.printer.range(&election.stored().await?)?);
    tokio::select! {
        () = signals.any() => Ok(election.resign().await?),
        () = lease.done() => Err(Code::Error.with("elect: session expired")),
    }
}

/// A client whose calls have no time limit.
async fn connected(session: &mut Session) -> CommandResult<Client> {
    let client = session.client_without_timeout().await?;
    tokio::spawn(session.report_while_unconnected(client.clone()));
    Ok(client)
}

/// SIGINT and SIGTERM, which end these commands.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> CommandResult<Signals> {
        let listen = |kind| signal(kind).map_err(|error| Code::Error.with(error));
        let interrupt = listen(SignalKind::interrupt())?;
        Ok(Signals { interrupt, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for one of them.
    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

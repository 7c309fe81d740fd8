//! `alarm …`, `downgrade …`, `snapshot save`.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/{alarm,downgrade,snapshot}_command.go,
//! client/v3/snapshot/v3_snapshot.go.

use crate::endpoint::list_alarms;
use crate::failure::{Code, CommandResult, Failure};
use crate::output;
use crate::session::{Session, connect};
use cli::duration::GoDuration;
use cli::go;
use cli::json::Object;
use cli::log::{Level, Line};
use client::{Client, Snapshot};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::downgrade_request::DowngradeAction;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, Instant};
use terminal::{Bar, Unit};

pub(crate) async fn alarm_list(mut session: Session) -> CommandResult {
    if !session.args.is_empty() {
        return Err(Code::BadArgs.with("alarm list command accepts no arguments"));
    }
    let answer = session.client().await?.alarm(list_alarms()).await?;
    output::out(&session.printer.alarm(&answer)?);
    Ok(())
}

/// Lists the alarms and disarms them one by one.
pub(crate) async fn alarm_disarm(mut session: Session) -> CommandResult {
    if !session.args.is_empty() {
        return Err(Code::BadArgs.with("alarm disarm command accepts no arguments"));
    }
    let client = session.client().await?;
    let mut disarmed = pb::AlarmResponse::default();
    for alarm in client.alarm(list_alarms()).await?.alarms {
        let request = pb::AlarmRequest {
            action: AlarmAction::Deactivate.into(),
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        disarmed.alarms.extend(client.alarm(request).await?.alarms);
    }
    output::out(&session.printer.alarm(&disarmed)?);
    Ok(())
}

pub(crate) async fn downgrade(mut session: Session, action: DowngradeAction) -> CommandResult {
    let version = match (action, &session.words()[..]) {
        (DowngradeAction::Cancel, _) => String::new(),
        (_, [version]) if !version.is_empty() => version.clone(),
        (_, []) => return Err(Code::BadArgs.with("TARGET_VERSION not provided")),
        (_, [_]) => return Err(Code::BadArgs.with("target version not provided")),
        (_, _) => return Err(Code::BadArgs.with("too many arguments")),
    };
    let client = session.client().await?;
    let answer = client.downgrade(pb::DowngradeRequest { action: action.into(), version }).await?;
    let action = action.as_str_name().to_lowercase();
    output::out(&session.printer.downgrade(&action, &answer)?);
    Ok(())
}

/// Refuses a command of etcdctl 3.5 that works on files. Scripts must not believe that it worked.
pub(crate) fn moved(command: &str, arguments: &str) -> CommandResult {
    let why = format!("etcdctl has no `{command}` since 3.6; use `etcdutl {command} {arguments}`");
    Err(Code::Error.with(why))
}

pub(crate) async fn snapshot_save(mut session: Session) -> CommandResult {
    let [path] = &session.words()[..] else {
        return Err(Code::BadArgs.with("snapshot save expects one argument <filename>"));
    };
    session.set_logger("client");
    let config = session.open()?;
    let endpoints = config.endpoints.clone();
    let [endpoint] = &endpoints[..] else {
        return Err(Code::Interrupted.with(format!(
            "snapshot must be requested to one selected node, not multiple [{}]",
            endpoints.join(" ")
        )));
    };
    let timeout = session.flags.duration("command-timeout");
    let client = connect(config).await?.with_timeout(timeout);
    let part = format!("{path}.part");
    let saving = save(&client, (endpoint, timeout), &part, path);
    // A large transfer may take long, so without the flag only connecting has a time limit.
    let saved = match session.flags.changed("command-timeout") {
        true => {
            let late = |_| Err(interrupted("context deadline exceeded"));
            tokio::time::timeout(timeout, saving).await.unwrap_or_else(late)
        }
        false => saving.await,
    };
    if saved.is_err() {
        // Remove the incomplete snapshot; an error here cannot be handled.
        _ = std::fs::remove_file(&part);
    }
    let version = saved?;
    output::line(&format!("Snapshot saved at {path}"));
    if !version.is_empty() {
        output::line(&format!("Server version {version}"));
    }
    Ok(())
}

fn interrupted(why: impl ToString) -> Failure {
    Code::Interrupted.with(why)
}

fn log(logger: &str, message: &str, fields: Object) {
    let caller = concat!(file!(), ":", line!());
    output::log(&Line { level: Level::Info, logger, caller, message, fields });
}

/// Downloads a snapshot into `part`, checks it, and renames it to `path`. Returns the server's
/// version. While the endpoint sends nothing, a message is printed after each pause.
async fn save(
    client: &Client,
    (endpoint, pause): (&str, Duration),
    part: &str,
    path: &str,
) -> CommandResult<String> {
    let could_not = |what: &str, error: &dyn ToString| {
        interrupted(format!("could not {what} ({})", error.to_string()))
    };
    let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(part);
    let mut file =
        open.map_err(|error| could_not(&format!("open {part}"), &io_text(part, &error)))?;
    log("", "created temporary db file", Object::zap().string("path", part));
    let start = Instant::now();
    let waiting = |seconds| {
        output::error_line(&format!(
            "waiting for the snapshot from {endpoint}: no response for {seconds} s"
        ));
    };
    let mut snapshot = reporting(pause, client.snapshot(), waiting).await.map_err(interrupted)?;
    log("client", "opened snapshot stream; downloading", Object::zap());
    receive(&mut snapshot, (endpoint, pause), &mut file).await?;
    log("client", "completed snapshot read; closing", Object::zap());
    sync(&file).map_err(|error| interrupted(format!("could not fsync snapshot: {error}")))?;
    let fields = Object::zap()
        .string("endpoint", endpoint)
        .string("size", &go::bytes(snapshot.received()))
        .string("took", &GoDuration::from(start.elapsed()).to_string())
        .string("etcd-version", snapshot.version());
    log("", "fetched snapshot", fields);
    let renamed = std::fs::rename(part, path);
    renamed.map_err(|error| could_not(&format!("rename {part} to {path}"), &error))?;
    log("", "saved", Object::zap().string("path", path));
    Ok(snapshot.version().to_string())
}

/// Writes all pieces of a snapshot to a file, and draws a progress bar.
async fn receive(
    snapshot: &mut Snapshot,
    (endpoint, pause): (&str, Duration),
    file: &mut File,
) -> CommandResult {
    let wrong =
        |why: &dyn ToString| interrupted(format!("could not write snapshot: {}", why.to_string()));
    let mut bar = None;
    loop {
        let size = go::bytes(snapshot.received());
        let waiting = |seconds| {
            let line = format!(
                "waiting for the rest of the snapshot from {endpoint}: received {size}, nothing \
                 for {seconds} s"
            );
            bar.as_ref().map_or_else(|| output::error_line(&line), |bar: &Bar| bar.say(&line));
        };
        let piece = match reporting(pause, snapshot.next(), waiting).await {
            Ok(Some(piece)) => piece,
            Ok(None) => return Ok(()),
            Err(error @ client::Error::Snapshot(_)) => return Err(interrupted(error)),
            Err(error) if bar.is_none() => return Err(interrupted(error)),
            Err(error) => return Err(wrong(&error)),
        };
        let bar = bar.get_or_insert_with(|| {
            log("", "fetching snapshot", Object::zap().string("endpoint", endpoint));
            Bar::start(snapshot.size(), Unit::Bytes)
        });
        file.write_all(&piece).map_err(|error| wrong(&error))?;
        bar.set_total(snapshot.size());
        bar.set(snapshot.received());
    }
}

/// Waits for `work`, and after each pause calls `report` with the seconds that have passed.
async fn reporting<T>(pause: Duration, work: impl Future<Output = T>, report: impl Fn(u64)) -> T {
    /// A pause of 0 would report without end.
    const PAUSE_MIN: Duration = Duration::from_secs(1);
    let pause = pause.max(PAUSE_MIN);
    let mut work = std::pin::pin!(work);
    let mut waited = Duration::ZERO;
    loop {
        match tokio::time::timeout(pause, &mut work).await {
            Ok(done) => return done,
            Err(_) => waited += pause,
        }
        report(waited.as_secs());
    }
}

fn sync(file: &File) -> std::io::Result<()> {
    file.sync_all()
}

/// An error of the operating system in Go's words.
fn io_text(path: &str, error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_lowercase();
    format!("open {path}: {text}")
}

//! `watch`, with a command run for each event, and its interactive mode.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/watch_command.go.

use crate::failure::{Code, CommandResult};
use crate::output;
use crate::printer::Printer;
use crate::session::Session;
use crate::{commands, txn};
use cli::{Flags, Words, go};
use client::{WatchUpdate, Watcher, from_key, prefix_end};
use proto::etcdserverpb as pb;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::ExitStatusExt as _;

const BAD_NUMBER: &str = "bad number of arguments";
const CONFLICT: &str = "bad number of arguments (found conflicting environment key)";
const SEPARATOR: &str = "bad number of arguments (found separator --, but no commands)";

/// The key and range end from the environment variables.
#[derive(Default)]
struct FromEnvironment {
    key: Vec<u8>,
    end: Vec<u8>,
}

/// The keys to watch, and the command to run for each event; it may be empty.
#[derive(Debug)]
struct WatchArguments {
    keys: Words,
    command: Words,
}

pub(crate) async fn watch(mut session: Session) -> CommandResult {
    let variable = |name| std::env::var_os(name).map(OsString::into_vec).unwrap_or_default();
    let from = FromEnvironment {
        key: variable("ETCDCTL_WATCH_KEY"),
        end: variable("ETCDCTL_WATCH_RANGE_END"),
    };
    if from.key.is_empty() && !from.end.is_empty() {
        let end = go::quote(&from.end);
        let text = format!("ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={end}");
        return Err(Code::BadArgs.with(text));
    }
    if session.flags.bool("interactive") {
        return interactive(session, &from).await;
    }
    let arguments = split_arguments(&session.args, session.dash, &from)?;
    let client = session.client_without_timeout().await?;
    let watcher = client.watch(request(&session.flags, &arguments.keys)?).await;
    spawn(session.report_while_unconnected(client));
    print(session.printer, watcher, arguments.command).await?;
    Err(Code::Interrupted.with("watch is canceled by the server"))
}

/// Separates the keys from the command to run. `dash` is the number of arguments before `--`.
fn split_arguments(
    args: &Words,
    dash: Option<usize>,
    from: &FromEnvironment,
) -> CommandResult<WatchArguments> {
    let (keys, command) = args.split_at(dash.unwrap_or(args.len()));
    if dash.is_some() && command.is_empty() {
        return Err(Code::BadArgs.with(SEPARATOR));
    }
    let mut keys = keys.to_vec();
    if !from.key.is_empty() {
        if !keys.is_empty() {
            return Err(Code::BadArgs.with(CONFLICT));
        }
        keys.push(from.key.clone());
        keys.extend(Some(from.end.clone()).filter(|end| !end.is_empty()));
    }
    Ok(WatchArguments { keys, command: command.to_vec() })
}

fn request(flags: &Flags, keys: &Words) -> CommandResult<pb::WatchCreateRequest> {
    let Some(key) = keys.first() else { return Err(Code::BadArgs.with(BAD_NUMBER)) };
    let prefix = flags.bool("prefix");
    let (key, end) = match keys.get(1) {
        Some(_) if prefix && keys.len() == 2 => {
            let text = "`range_end` and `--prefix` are mutually exclusive";
            return Err(Code::BadArgs.with(text));
        }
        Some(end) if keys.len() == 2 => (key.clone(), end.clone()),
        _ if prefix && key.is_empty() => (vec![0], from_key()),
        _ if prefix => (key.clone(), prefix_end(key)),
        _ => (key.clone(), Vec::new()),
    };
    Ok(pb::WatchCreateRequest {
        key: key.into(),
        range_end: end.into(),
        start_revision: flags.int("rev"),
        prev_kv: flags.bool("prev-kv"),
        progress_notify: flags.bool("progress-notify"),
        ..Default::default()
    })
}

/// Prints the responses of a watch until it ends.
async fn print(printer: Printer, mut watcher: Watcher, command: Words) -> CommandResult {
    while let Some(update) = watcher.next().await {
        if let Some(error) = &update.error {
            output::error_line(&format!("watch was canceled ({error})"));
        }
        let revision = update.response.header.map_or(0, |header| header.revision);
        if update.is_progress() {
            output::line(&format!("progress notify: {revision}"));
        }
        output::out(&printer.watch(&update.response)?);
        if !command.is_empty() {
            run(&command, &update, revision)?;
        }
    }
    Ok(())
}

/// Runs the command for each event.
fn run(command: &Words, update: &WatchUpdate, revision: i64) -> CommandResult {
    let words: Vec<&std::ffi::OsStr> =
        command.iter().map(|word| std::ffi::OsStr::from_bytes(word)).collect();
    for event in &update.response.events {
        let kv = event.kv.clone().unwrap_or_default();
        let quote = |bytes: &[u8]| OsString::from(go::quote(bytes));
        let status = std::process::Command::new(words[0])
            .args(&words[1..])
            .env("ETCD_WATCH_REVISION", revision.to_string())
            .env("ETCD_WATCH_EVENT_TYPE", quote(event.r#type().as_str_name().as_bytes()))
            .env("ETCD_WATCH_KEY", quote(&kv.key))
            .env("ETCD_WATCH_VALUE", quote(&kv.value))
            .stdin(std::process::Stdio::null())
            .status();
        let why = match status {
            Ok(status) if status.success() => continue,
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit status {code}"),
                (None, signal) => format!("signal: {}", signal.unwrap_or_default()),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                format!("exec: {}: executable file not found in $PATH", go::quote(&command[0]))
            }
            Err(error) => error.to_string(),
        };
        let shown: Vec<String> = command.iter().map(|word| go::quote(word)).collect();
        output::error_line(&format!("command [{}] error ({why})", shown.join(" ")));
        return Err(Code::Error.silent());
    }
    Ok(())
}

/// Reads `watch …` and `progress` lines from the standard input. All watches share one stream.
async fn interactive(mut session: Session, from: &FromEnvironment) -> CommandResult {
    let client = session.client_without_timeout().await?;
    let mut hub = client.watch_hub();
    spawn(session.report_while_unconnected(client));
    loop {
        let line = next_line().await?;
        let shown = String::from_utf8_lossy(&line).into_owned();
        let words = txn::split_words(&line)?;
        match words.first().map(Vec::as_slice) {
            None => output::error_line(&format!(
                "Invalid command: {shown} (watch and progress supported)"
            )),
            Some(b"watch") if words.len() < 2 && from.key.is_empty() => output::error_line(
                &format!("Invalid command {shown} (command type or key is not provided)"),
            ),
            Some(b"watch") => {
                let parsed = cli::parse_flags(&commands::WATCH, &words[1..]);
                let parsed = parsed.map_err(|why| Code::BadArgs.with(why))?;
                let arguments = split_interactive_arguments(&parsed.args, parsed.dash, from)?;
                match request(&parsed.flags, &arguments.keys) {
                    Ok(request) => {
                        let watcher = hub.watch(request).await;
                        spawn(print_or_end(session.printer, watcher, arguments.command));
                    }
                    Err(failure) => output::error_line(&format!(
                        "Invalid command {shown} ({})",
                        failure.message.unwrap_or_default()
                    )),
                }
            }
            Some(b"progress") => hub.request_progress(),
            Some(_) => {
                output::error_line(&format!("Invalid command {shown} (only support watch)"));
            }
        }
    }
}

/// As [`split_arguments`]; a line without a key is an error.
fn split_interactive_arguments(
    args: &Words,
    dash: Option<usize>,
    from: &FromEnvironment,
) -> CommandResult<WatchArguments> {
    if dash.is_none() && args.is_empty() && from.key.is_empty() {
        return Err(Code::BadArgs.with(BAD_NUMBER));
    }
    split_arguments(args, dash, from)
}

/// Starts a task. If it panics, the program exits.
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    let task = tokio::spawn(task);
    tokio::spawn(async {
        if let Err(failed) = task.await {
            output::end(Code::Error.with(failed));
        }
    });
}

async fn print_or_end(printer: Printer, watcher: Watcher, command: Words) {
    if let Err(failure) = print(printer, watcher, command).await {
        output::end(failure);
    }
}

/// The next line of standard input, without its line feed.
async fn next_line() -> CommandResult<Vec<u8>> {
    let read = tokio::task::spawn_blocking(|| {
        let mut line = Vec::new();
        std::io::BufRead::read_until(&mut std::io::stdin().lock(), b'\n', &mut line).map(|_| line)
    });
    let wrong =
        |why: String| Code::InvalidInput.with(format!("error reading watch request line: {why}"));
    let read = read.await.map_err(|error| wrong(error.to_string()))?;
    let mut line = read.map_err(|error| wrong(error.to_string()))?;
    match line.pop() {
        Some(b'\n') => Ok(line),
        _ => Err(wrong("EOF".to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str, key: &str) -> Result<(String, String), String> {
        let words: Words = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let parsed = cli::parse_flags(&commands::WATCH, &words).unwrap();
        let from = FromEnvironment { key: key.as_bytes().to_vec(), end: Vec::new() };
        let join = |words: Words| String::from_utf8(words.join(&b' ')).unwrap();
        match split_arguments(&parsed.args, parsed.dash, &from) {
            Ok(arguments) => Ok((join(arguments.keys), join(arguments.command))),
            Err(failure) => Err(failure.message.unwrap()),
        }
    }

    #[test]
    fn keys_and_command_are_separated_by_the_dashes() {
        let found = |keys: &str, command: &str| Ok((keys.to_string(), command.to_string()));
        assert_eq!(split("foo", ""), found("foo", ""));
        assert_eq!(split("foo bar --rev 1 -- echo hi", ""), found("foo bar", "echo hi"));
        assert_eq!(split("foo --rev 1 bar -- echo -n", ""), found("foo bar", "echo -n"));
        assert_eq!(split("foo --", ""), Err(SEPARATOR.to_string()));
        assert_eq!(split("--rev 1 -- echo hi", "foo"), found("foo", "echo hi"));
        assert_eq!(split("foo", "foo"), Err(CONFLICT.to_string()));
    }
}

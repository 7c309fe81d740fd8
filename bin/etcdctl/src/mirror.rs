//! `make-mirror`: copies the keys of one cluster to another until it is stopped.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/make_mirror_command.go.

use crate::failure::{Code, CommandResult};
use crate::output;
use crate::session::{Session, connect};
use cli::Flags;
use client::{Mirror, MirrorOptions};
use std::time::Duration;
use terminal::{Bar, Unit};

/// The time between two lines with the number of keys.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);
/// The time between two readings of the number of keys, for the progress bar.
const SHOW_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) async fn make_mirror(mut session: Session) -> CommandResult {
    let words = session.words();
    let [destination] = &words[..] else {
        return Err(Code::BadArgs.with("make-mirror takes one destination argument"));
    };
    let (source, to) = session.open_with_destination(destination.clone())?;
    let options = options(&session.flags)?;
    let (to, source) = (connect(to).await?, connect(source).await?);
    tokio::spawn(session.report_while_unconnected_to(destination.clone(), to.clone()));
    tokio::spawn(session.report_while_unconnected(source.clone()));
    let mirror = Mirror::new(source, to, options);
    tokio::select! {
        ended = run(&mirror, session.flags.int("rev")) => ended,
        () = report(&mirror) => Ok(()),
    }
}

/// Copies all keys, then the changes. If a first revision is given, copies only the changes from
/// it on. As in etcd, revision 1 counts as not given.
async fn run(mirror: &Mirror, first_revision: i64) -> CommandResult {
    let first = if first_revision > 1 {
        first_revision
    } else {
        let bar = Bar::start(0, Unit::Steps);
        tokio::select! {
            copied = mirror.copy() => {
                bar.set_total(mirror.total());
                bar.set(mirror.copied());
                copied? + 1
            }
            () = show(mirror, &bar) => first_revision,
        }
    };
    Err(mirror.follow(first).await.into())
}

/// Draws how many keys are copied, for ever.
async fn show(mirror: &Mirror, bar: &Bar) {
    loop {
        tokio::time::sleep(SHOW_INTERVAL).await;
        bar.set_total(mirror.total());
        bar.set(mirror.copied());
    }
}

async fn report(mirror: &Mirror) {
    loop {
        tokio::time::sleep(REPORT_INTERVAL).await;
        output::line(&mirror.copied().to_string());
    }
}

fn options(flags: &Flags) -> CommandResult<MirrorOptions> {
    let (prefix, dest_prefix) = (flags.bytes("prefix"), flags.bytes("dest-prefix"));
    let has_no_prefix = flags.bool("no-dest-prefix");
    if has_no_prefix && !dest_prefix.is_empty() {
        return Err(Code::BadArgs.with(
            "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one",
        ));
    }
    let mut options = MirrorOptions::of_prefix(prefix);
    if has_no_prefix || !dest_prefix.is_empty() {
        options.dest_prefix = dest_prefix.to_vec();
    }
    options.txn_ops_max = usize::try_from(flags.uint("max-txn-ops")).unwrap_or(usize::MAX);
    if options.txn_ops_max == 0 {
        return Err(Code::BadArgs.with("--max-txn-ops must be at least 1"));
    }
    Ok(options)
}

//! etcdctl: the command line client of etcd's v3 API.

mod auth;
mod check;
mod commands;
mod endpoint;
mod failure;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod member;
mod mirror;
mod output;
mod pairs;
mod printer;
mod session;
mod txn;
mod verdict;
mod watch;

use cli::Invocation;
use failure::{Code, CommandResult};
use proto::etcdserverpb::downgrade_request::DowngradeAction;
use session::Session;
use std::os::unix::ffi::OsStringExt;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    if let Err(failure) = session::check_api() {
        output::end(failure);
    }
    let words: cli::Words = std::env::args_os().skip(1).map(OsStringExt::into_vec).collect();
    if let Some(completion) = cli::completion(&commands::ROOT, &words) {
        output::error_text(&completion.notes);
        return output::out(completion.out.as_bytes());
    }
    let parsed = match cli::parse(&commands::ROOT, &words) {
        Invocation::Help(text) => return output::out(text.as_bytes()),
        Invocation::Wrong(text) => {
            output::error_text(&text);
            std::process::exit(Code::Error as i32);
        }
        Invocation::Run(parsed) => parsed,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(Session::new(parsed))),
        Err(error) => Err(Code::Error.with(error)),
    };
    match done {
        // Exit without waiting for the thread that reads standard input.
        Ok(()) => std::process::exit(0),
        Err(failure) => output::end(failure),
    }
}

async fn run(session: Session) -> CommandResult {
    let name = session.name.clone();
    match name.as_str() {
        "get" => kv::get(session).await,
        "put" => kv::put(session).await,
        "del" => kv::del(session).await,
        "compaction" => kv::compaction(session).await,
        "txn" => txn::txn(session).await,
        "watch" => watch::watch(session).await,
        "lock" => lock::lock(session).await,
        "elect" => lock::elect(session).await,
        "lease grant" => lease::grant(session).await,
        "lease revoke" => lease::revoke(session).await,
        "lease timetolive" => lease::time_to_live(session).await,
        "lease list" => lease::list(session).await,
        "lease keep-alive" => lease::keep_alive(session).await,
        "endpoint health" => endpoint::health(session).await,
        "endpoint status" => endpoint::status(session).await,
        "endpoint hashkv" => endpoint::hashkv(session).await,
        "defrag" if session.flags.changed("data-dir") => {
            maintenance::moved("defrag --data-dir", "<data dir>")
        }
        "defrag" => endpoint::defrag(session).await,
        "member add" => member::add(session).await,
        "member list" => member::list(session).await,
        "member promote" => member::promote(session).await,
        "member remove" => member::remove(session).await,
        "member update" => member::update(session).await,
        "make-mirror" => mirror::make_mirror(session).await,
        "move-leader" => member::move_leader(session).await,
        "alarm disarm" => maintenance::alarm_disarm(session).await,
        "alarm list" => maintenance::alarm_list(session).await,
        "downgrade cancel" => maintenance::downgrade(session, DowngradeAction::Cancel).await,
        "downgrade enable" => maintenance::downgrade(session, DowngradeAction::Enable).await,
        "downgrade validate" => maintenance::downgrade(session, DowngradeAction::Validate).await,
        "snapshot save" => maintenance::snapshot_save(session).await,
        "snapshot restore" => maintenance::moved(&name, "<filename> --data-dir {output dir}"),
        "snapshot status" => maintenance::moved(&name, "<filename>"),
        "check datascale" => check::datascale(session).await,
        "check perf" => check::perf(session).await,
        "completion" => completion(&session),
        "auth status" => auth::status(session).await,
        "auth enable" => auth::enable(session).await,
        "auth disable" => auth::disable(session).await,
        "user add" => auth::user_add(session).await,
        "user delete" => auth::user_delete(session).await,
        "user get" => auth::user_get(session).await,
        "user list" => auth::user_list(session).await,
        "user passwd" => auth::user_passwd(session).await,
        "user grant-role" => auth::user_grant_role(session).await,
        "user revoke-role" => auth::user_revoke_role(session).await,
        "role add" => auth::role_add(session).await,
        "role delete" => auth::role_delete(session).await,
        "role get" => auth::role_get(session).await,
        "role list" => auth::role_list(session).await,
        "role grant-permission" => auth::role_grant_permission(session).await,
        "role revoke-permission" => auth::role_revoke_permission(session).await,
        "options" => {
            output::out(session::options().as_bytes());
            Ok(())
        }
        "version" => {
            output::line(&format!("etcdctl version: {}\nAPI version: 3.7", client::VERSION));
            Ok(())
        }
        other => unreachable!("the table of commands has `{other}`, which has no code"),
    }
}

/// Prints the script that completes command lines in a shell.
fn completion(session: &Session) -> CommandResult {
    let shell = session.args.first().map_or(&[][..], Vec::as_slice);
    let script = cli::completion_script(shell, &session.flags, "etcdctl");
    output::out(script.unwrap_or_default().as_bytes());
    Ok(())
}

//! `get`, `put`, `del`, `compaction`. The first three are also requests of a transaction.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/{get,put,del,compaction}_command.go.

use crate::failure::{Code, CommandResult};
use crate::output;
use crate::session::Session;
use cli::{Flags, Format, Words, go};
use client::{from_key, prefix_end};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use std::io::Read as _;
use std::time::Duration;

const BOTH: &str = "`--prefix` and `--from-key` cannot be set at the same time, choose one";
const TOO_MANY: &str =
    "too many arguments, only accept one argument when `--prefix` or `--from-key` is set";

pub(crate) async fn get(mut session: Session) -> CommandResult {
    let request = range_request(&session.flags, &session.args)?;
    let client = session.client().await?;
    let answer = match session.flags.bool("stream") {
        true => client.range_stream(request).await?,
        false => client.range(request).await?,
    };
    let format = session.printer.format;
    if session.flags.bool("count-only") && format != Format::Fields {
        return Err(Code::BadArgs.with("--count-only is only for `--write-out=fields`"));
    }
    if session.flags.bool("print-value-only") {
        if format != Format::Simple {
            return Err(Code::BadArgs.with("print-value-only is only for `--write-out=simple`"));
        }
        session.printer.value_only = true;
    }
    output::out(&session.printer.range(&answer)?);
    Ok(())
}

pub(crate) async fn put(mut session: Session) -> CommandResult {
    let request = put_request(&session.flags, &session.args)?;
    let answer = session.client().await?.put(request).await?;
    output::out(&session.printer.put(&answer)?);
    Ok(())
}

pub(crate) async fn del(mut session: Session) -> CommandResult {
    let request = delete_request(&session.flags, &session.args)?;
    let answer = session.client().await?.delete_range(request).await?;
    output::out(&session.printer.delete(&answer)?);
    Ok(())
}

pub(crate) async fn compaction(mut session: Session) -> CommandResult {
    let [revision] = &session.words()[..] else {
        return Err(Code::BadArgs.with("compaction command needs 1 argument"));
    };
    let revision = go::parse_int(revision, 10).map_err(|why| Code::Error.with(why))?;
    let request = pb::CompactionRequest { revision, physical: session.flags.bool("physical") };
    session.client().await?.compact(request).await?;
    output::line(&format!("compacted revision {revision}"));
    Ok(())
}

/// Whether `--consistency` asks for a serializable read, which one member can serve alone.
pub(crate) fn is_serializable(flags: &Flags) -> CommandResult<bool> {
    match flags.bytes("consistency") {
        b"s" => Ok(true),
        b"l" => Ok(false),
        // etcdctl prints this text for every command that has the flag.
        other => {
            let text = format!("unknown consistency flag {}", go::quote(other));
            Err(Code::BadFeature.with(text))
        }
    }
}

/// The key and the range end that `--prefix` and `--from-key` select.
fn widened(flags: &Flags, key: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let key_or_first = |key: &[u8]| if key.is_empty() { vec![0] } else { key.to_vec() };
    if flags.bool("from-key") || (flags.bool("prefix") && key.is_empty()) {
        (key_or_first(key), from_key())
    } else if flags.bool("prefix") {
        (key.to_vec(), prefix_end(key))
    } else {
        (key.to_vec(), Vec::new())
    }
}

fn sort(flags: &Flags) -> CommandResult<(SortOrder, SortTarget)> {
    let order = match flags.text("order").to_uppercase().as_str() {
        "ASCEND" => SortOrder::Ascend,
        "DESCEND" => SortOrder::Descend,
        "" => SortOrder::None,
        _ => return Err(Code::BadFeature.with(format!("bad sort order {}", flags.text("order")))),
    };
    let by = flags.text("sort-by");
    let target = match by.to_uppercase().as_str() {
        "CREATE" => SortTarget::Create,
        "KEY" | "" => SortTarget::Key,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => return Err(Code::BadFeature.with(format!("bad sort target {by}"))),
    };
    // The server returns keys in ascending order by default.
    let plain = target == SortTarget::Key && order == SortOrder::Ascend;
    Ok((if plain { SortOrder::None } else { order }, target))
}

fn revisions(flags: &Flags, min: &str, max: &str, shown: [&str; 2]) -> CommandResult<(i64, i64)> {
    let (lowest, highest) = (flags.int(min), flags.int(max));
    if highest > 0 && lowest > highest {
        let [min, max] = shown;
        return Err(Code::BadFeature.with(format!("{min}(={lowest}) > {max}(={highest})")));
    }
    Ok((lowest.max(0), highest.max(0)))
}

/// The request of a `get` command.
pub(crate) fn range_request(flags: &Flags, args: &Words) -> CommandResult<pb::RangeRequest> {
    let bad = |text: &str| Err(Code::BadArgs.with(text));
    let Some(key) = args.first() else {
        return bad("get command needs one argument as key and an optional argument as range_end");
    };
    let wide = flags.bool("prefix") || flags.bool("from-key");
    if flags.bool("prefix") && flags.bool("from-key") {
        return bad(BOTH);
    }
    if flags.bool("keys-only") && flags.bool("count-only") {
        return bad("`--keys-only` and `--count-only` cannot be set at the same time, choose one");
    }
    let serializable = is_serializable(flags)?;
    if args.len() > 1 && wide {
        return bad(TOO_MANY);
    }
    let (order, target) = sort(flags)?;
    let (key, wide_end) = widened(flags, key);
    let end = args.get(1).cloned().unwrap_or(wide_end);
    let create = ["getMinCreateRev", "getMaxCreateRev"];
    let (min_create_revision, max_create_revision) =
        revisions(flags, "min-create-rev", "max-create-rev", create)?;
    let (min_mod_revision, max_mod_revision) =
        revisions(flags, "min-mod-rev", "max-mod-rev", ["getMinModRev", "getMaxModRev"])?;
    Ok(pb::RangeRequest {
        key: key.into(),
        range_end: end.into(),
        limit: flags.int("limit"),
        revision: flags.int("rev").max(0),
        sort_order: order.into(),
        sort_target: target.into(),
        serializable,
        keys_only: flags.bool("keys-only"),
        count_only: flags.bool("count-only"),
        min_mod_revision,
        max_mod_revision,
        min_create_revision,
        max_create_revision,
    })
}

/// The request of a `put` command. A missing value is read from standard input.
pub(crate) fn put_request(flags: &Flags, args: &Words) -> CommandResult<pb::PutRequest> {
    let usage = "put command needs 1 argument and input from stdin or 2 arguments";
    let Some(key) = args.first() else { return Err(Code::BadArgs.with(usage)) };
    let ignore_value = flags.bool("ignore-value");
    if ignore_value && args.len() > 1 {
        let text = "put command needs only 1 argument when 'ignore-value' is set";
        return Err(Code::BadArgs.with(text));
    }
    let value = match args.get(1) {
        _ if ignore_value => Vec::new(),
        Some(value) => value.clone(),
        None => {
            let mut value = Vec::new();
            match std::io::stdin().read_to_end(&mut value) {
                Ok(1..) => value,
                Ok(0) | Err(_) => return Err(Code::BadArgs.with(usage)),
            }
        }
    };
    let lease = go::parse_int(&flags.text("lease"), 16)
        .map_err(|why| Code::BadArgs.with(format!("bad lease ID ({why}), expecting ID in Hex")))?;
    Ok(pb::PutRequest {
        key: key.clone().into(),
        value: value.into(),
        lease,
        prev_kv: flags.bool("prev-kv"),
        ignore_value,
        ignore_lease: flags.bool("ignore-lease"),
    })
}

/// The request of a `del` command. For a range without `--range`, prints a warning and waits 2 s.
pub(crate) fn delete_request(flags: &Flags, args: &Words) -> CommandResult<pb::DeleteRangeRequest> {
    let bad = |text: &str| Err(Code::BadArgs.with(text));
    let (Some(key), 1..=2) = (args.first(), args.len()) else {
        return bad("del command needs one argument as key and an optional argument as range_end");
    };
    if flags.bool("prefix") && flags.bool("from-key") {
        return bad(BOTH);
    }
    let (wide_key, mut range_end) = widened(flags, key);
    if let Some(end) = args.get(1) {
        if flags.bool("prefix") || flags.bool("from-key") {
            return bad(TOO_MANY);
        }
        if !flags.bool("range") {
            output::error_line(&format!(
                "Warning: Keys between {} and {} will be deleted. Please interrupt the command \
                 within next 2 seconds to cancel. You can provide `--range` flag to avoid the \
                 delay.",
                go::quote(key),
                go::quote(end)
            ));
            std::thread::sleep(Duration::from_secs(2));
        }
        range_end.clone_from(end);
    }
    Ok(pb::DeleteRangeRequest {
        key: wide_key.into(),
        range_end: range_end.into(),
        prev_kv: flags.bool("prev-kv"),
    })
}

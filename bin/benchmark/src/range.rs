//! `range`.
//!
//! Source: etcd v3.7.1 tools/benchmark/cmd/range.go.

use crate::bench::{Bench, never};
use crate::failure::{CommandResult, Failure};
use crate::output;
use client::{Client, from_key, prefix_end};
use proto::etcdserverpb as pb;

/// The page size of Kubernetes.
const PAGE_KEYS: i64 = 10_000;

/// How a range is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    OneResponse,
    Stream,
    Pages,
}

pub(crate) async fn range(bench: &mut Bench) -> CommandResult {
    let flags = &bench.flags;
    let request = request(bench)?;
    let way = match (flags.bool("stream"), flags.bool("paginate")) {
        (true, _) => Way::Stream,
        (false, true) => Way::Pages,
        (false, false) => Way::OneResponse,
    };
    output::line(consistency(request.serializable));
    let (pace, clients) = (bench.pace()?, bench.clients().await?);
    let read = move |client: Client, _| {
        let request = request.clone();
        async move { read(&client, request, way).await.map_err(|error| error.to_string()) }
    };
    let results = load::run(clients, pace, &never(), read).await;
    output::text(&bench.report("range", results)?);
    Ok(())
}

/// The line that says which consistency is measured.
pub(crate) fn consistency(serializable: bool) -> &'static str {
    if serializable { "bench with serializable range" } else { "bench with linearizable range" }
}

/// Whether `--consistency` is `s` instead of `l`.
pub(crate) fn is_serializable(bench: &Bench) -> CommandResult<bool> {
    match bench.flags.text("consistency").as_str() {
        "l" => Ok(false),
        "s" => Ok(true),
        _ => Err(Failure::Misused),
    }
}

fn request(bench: &Bench) -> CommandResult<pb::RangeRequest> {
    let flags = &bench.flags;
    let has_prefix = flags.bool("prefix");
    let (mut key, mut range_end) = match &bench.args[..] {
        [] if has_prefix => (Vec::new(), Vec::new()),
        [key] => (key.clone(), Vec::new()),
        [key, end] => (key.clone(), end.clone()),
        _ => return Err(Failure::Misused),
    };
    if has_prefix {
        range_end = prefix_end(&key);
        if key.is_empty() {
            (key, range_end) = (vec![0], from_key());
        }
    }
    let limit = flags.int("limit");
    if flags.bool("paginate") && limit > 0 {
        return Err("--paginate and --limit are mutually exclusive".to_string().into());
    }
    let (count_only, keys_only) = (flags.bool("count-only"), flags.bool("keys-only"));
    if count_only && keys_only {
        let why = "`--keys-only` and `--count-only` cannot be set at the same time";
        return Err(why.to_string().into());
    }
    Ok(pb::RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        limit: limit.max(0),
        serializable: is_serializable(bench)?,
        count_only,
        keys_only,
        ..pb::RangeRequest::default()
    })
}

async fn read(client: &Client, request: pb::RangeRequest, way: Way) -> Result<(), client::Error> {
    match way {
        Way::OneResponse => client.range(request).await.map(drop),
        Way::Stream => client.range_stream(request).await.map(drop),
        Way::Pages => read_pages(client, request).await,
    }
}

/// Reads all pages at the revision of the first one.
async fn read_pages(client: &Client, mut request: pb::RangeRequest) -> Result<(), client::Error> {
    request.limit = PAGE_KEYS;
    loop {
        let page = client.range(request.clone()).await?;
        let Some(last) = page.kvs.last().filter(|_| page.more) else { return Ok(()) };
        request.key = [&last.key[..], &[0]].concat().into();
        if request.revision == 0 {
            request.revision = page.header.map_or(0, |header| header.revision);
        }
    }
}

//! Fixed conversations with one server, told as lines: what depends on time or on how responses
//! are grouped, and can therefore not be asked at random.

mod expiry;
mod grouping;

use crate::server::Server;
use crate::watchers::Stream;
use anyhow::{Context, Result};
use proto::etcdserverpb::{
    PutRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchResponse, request_op::Request,
    watch_request::RequestUnion,
};
use proto::mvccpb::Event;
use rpc::stubs::etcdserverpb::kv_client::KvClient;
use tonic::transport::Channel;

/// Every script, by name.
pub const NAMES: [&str; 2] = ["grouping", "expiry"];

/// Runs a script on a fresh server; the lines are the same wherever the behaviour is.
///
/// # Errors
/// When the server fails or does not say what the script waits for.
pub async fn run(name: &str, server: &Server) -> Result<Vec<String>> {
    let mut talk = Talk::new(server).await?;
    let done = match name {
        "grouping" => grouping::run(&mut talk).await,
        "expiry" => expiry::run(&mut talk).await,
        other => anyhow::bail!("no script is called {other}"),
    };
    done.with_context(|| format!("{name}, behind {:?}", talk.lines.last()))?;
    Ok(talk.lines)
}

/// A client that writes down what it is told.
struct Talk {
    channel: Channel,
    kv: KvClient<Channel>,
    lines: Vec<String>,
}

impl Talk {
    async fn new(server: &Server) -> Result<Talk> {
        let channel = server.connect().await?;
        Ok(Talk { kv: KvClient::new(channel.clone()), channel, lines: Vec::new() })
    }

    fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    async fn put(&mut self, key: &str, value: &str) -> Result<()> {
        self.kv.put(put(key, value)).await?;
        Ok(())
    }

    /// One revision that puts all of these keys.
    async fn put_all(&mut self, keys: &[&str], value: &str) -> Result<()> {
        let each = |key: &&str| RequestOp { request: Some(Request::RequestPut(put(key, value))) };
        let success = keys.iter().map(each).collect();
        self.kv.txn(TxnRequest { success, ..TxnRequest::default() }).await?;
        Ok(())
    }

    async fn stream(&self) -> Result<Stream> {
        Stream::open(self.channel.clone()).await
    }

    /// Asks for a watcher and writes down the answer.
    async fn create(&mut self, stream: &mut Stream, request: WatchCreateRequest) -> Result<()> {
        stream.send(RequestUnion::CreateRequest(request)).await?;
        let response = stream.next().await?;
        self.say(described(&response));
        Ok(())
    }

    /// Reads until so many events came, and writes down each watcher's responses in a row.
    async fn hear(&mut self, stream: &mut Stream, events: usize) -> Result<()> {
        let mut heard = Vec::new();
        let mut count = 0;
        while count < events {
            let response = stream.next().await?;
            count += response.events.len();
            heard.push((response.watch_id, described(&response)));
        }
        // Watchers are told in any order, each of them in its own.
        heard.sort_by_key(|(watch_id, _)| *watch_id);
        self.lines.extend(heard.into_iter().map(|(_, line)| line));
        Ok(())
    }
}

fn put(key: &str, value: &str) -> PutRequest {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    PutRequest { key, value, ..PutRequest::default() }
}

/// A watcher of all keys that begin with `prefix`, which ends with a letter.
fn prefix(prefix: &str) -> WatchCreateRequest {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    let (key, range_end) = (prefix.to_owned().into(), end.into());
    WatchCreateRequest { key, range_end, ..WatchCreateRequest::default() }
}

fn described(response: &WatchResponse) -> String {
    let mut line = format!("watcher {}", response.watch_id);
    let revision = response.header.as_ref().map_or(0, |header| header.revision);
    line.push_str(&format!(" at {revision}"));
    for (word, said) in [
        (" created", response.created),
        (" canceled", response.canceled),
        (" fragment", response.fragment),
    ] {
        if said {
            line.push_str(word);
        }
    }
    if response.compact_revision != 0 {
        line.push_str(&format!(" compacted {}", response.compact_revision));
    }
    if !response.cancel_reason.is_empty() {
        line.push_str(&format!(" ({})", response.cancel_reason));
    }
    let shown = response.events.iter().take(8).map(event);
    line.push_str(&format!(": {} events {}", response.events.len(), shown.collect::<String>()));
    if response.events.len() > 8
        && let Some(last) = response.events.last()
    {
        line.push_str(&format!("… {}", event(last)));
    }
    line
}

fn event(event: &Event) -> String {
    let kind = if event.r#type == 0 { "put" } else { "delete" };
    let Some(kv) = &event.kv else { return format!("{kind} of nothing ") };
    let key = String::from_utf8_lossy(&kv.key);
    let value = String::from_utf8_lossy(kv.value.get(..8).unwrap_or(&kv.value));
    let had = event.prev_kv.as_ref().map(|had| format!(" had {}", had.mod_revision));
    format!(
        "[{kind} {key}={value} {}/{}/{} lease {}{}]",
        kv.create_revision,
        kv.mod_revision,
        kv.version,
        u8::from(kv.lease != 0),
        had.unwrap_or_default(),
    )
}

//! The client of a script. It records everything that it receives.

use crate::server::Server;
use crate::watchers::Stream;
use anyhow::Result;
use proto::etcdserverpb::{
    PutRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchResponse, request_op::Request,
    watch_request::RequestUnion,
};
use proto::mvccpb::Event;
use rpc::stubs::etcdserverpb::kv_client::KvClient;
use tonic::transport::Channel;

/// A client, and the recorded lines.
pub(super) struct Transcript {
    pub(super) channel: Channel,
    pub(super) kv: KvClient<Channel>,
    pub(super) lines: Vec<String>,
}

impl Transcript {
    pub(super) async fn new(server: &Server) -> Result<Transcript> {
        let channel = server.connect().await?;
        Ok(Transcript { kv: KvClient::new(channel.clone()), channel, lines: Vec::new() })
    }

    pub(super) fn note(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    pub(super) async fn put(&mut self, key: &str, value: &str) -> Result<()> {
        self.kv.put(put(key, value)).await?;
        Ok(())
    }

    /// Puts these keys in one revision.
    pub(super) async fn put_all(&mut self, keys: &[&str], value: &str) -> Result<()> {
        let each = |key: &&str| RequestOp { request: Some(Request::RequestPut(put(key, value))) };
        let success = keys.iter().map(each).collect();
        self.kv.txn(TxnRequest { success, ..TxnRequest::default() }).await?;
        Ok(())
    }

    pub(super) async fn stream(&self) -> Result<Stream> {
        Stream::open(self.channel.clone()).await
    }

    /// Creates a watcher and records the response.
    pub(super) async fn create(
        &mut self,
        stream: &mut Stream,
        request: WatchCreateRequest,
    ) -> Result<()> {
        stream.send(RequestUnion::CreateRequest(request)).await?;
        let response = stream.next().await?;
        self.note(described(&response));
        Ok(())
    }

    /// Reads until this many events have arrived. Records the responses, grouped by watcher.
    pub(super) async fn receive(&mut self, stream: &mut Stream, events: usize) -> Result<()> {
        let mut received = Vec::new();
        let mut count = 0;
        while count < events {
            let response = stream.next().await?;
            count += response.events.len();
            received.push((response.watch_id, described(&response)));
        }
        // The order of the responses is defined for each watcher, but not between watchers.
        received.sort_by_key(|(watch_id, _)| *watch_id);
        self.lines.extend(received.into_iter().map(|(_, line)| line));
        Ok(())
    }
}

pub(super) fn put(key: &str, value: &str) -> PutRequest {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    PutRequest { key, value, ..PutRequest::default() }
}

/// A request to watch all keys that begin with `prefix`, whose last byte is below 255.
pub(super) fn prefix(prefix: &str) -> WatchCreateRequest {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    let (key, range_end) = (prefix.to_owned().into(), end.into());
    WatchCreateRequest { key, range_end, ..WatchCreateRequest::default() }
}

pub(super) fn described(response: &WatchResponse) -> String {
    let mut line = format!("watcher {}", response.watch_id);
    let revision = response.header.as_ref().map_or(0, |header| header.revision);
    line.push_str(&format!(" at {revision}"));
    for (word, is_set) in [
        (" created", response.created),
        (" canceled", response.canceled),
        (" fragment", response.fragment),
    ] {
        if is_set {
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
    let prev = event.prev_kv.as_ref().map(|kv| format!(" had {}", kv.mod_revision));
    format!(
        "[{kind} {key}={value} {}/{}/{} lease {}{}]",
        kv.create_revision,
        kv.mod_revision,
        kv.version,
        u8::from(kv.lease != 0),
        prev.unwrap_or_default(),
    )
}

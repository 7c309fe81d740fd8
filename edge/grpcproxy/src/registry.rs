//! The proxies that have registered below a prefix: a key with a lease for each, whose value is JSON.
//!
//! Source: etcd server/proxy/grpcproxy/register.go and client/v3/naming/endpoints @ v3.7.1.

use crate::layers::Layers;
use crate::options::Registration;
use client::{Client, Error, Session, prefix_end};
use proto::etcdserverpb as pb;
use proto::mvccpb::KeyValue;
use proto::mvccpb::event::EventType;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// The pause before another attempt. That of etcd.
const PAUSE: Duration = Duration::from_secs(1);

/// What a proxy has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    /// The name of its machine.
    pub(crate) name: String,
    /// The address that it advertises.
    pub(crate) address: String,
}

impl Registered {
    /// The value of its key: `Op` 0 is an added address.
    fn to_value(&self) -> String {
        let metadata = json!({"name": self.name}).to_string();
        json!({"Op": 0, "Addr": self.address, "Metadata": metadata}).to_string()
    }

    /// Reads the value of a key; `None` if it is none of a proxy.
    fn from_value(value: &[u8]) -> Option<Registered> {
        let value: Value = serde_json::from_slice(value).ok()?;
        let metadata: Value = serde_json::from_str(value.get("Metadata")?.as_str()?).ok()?;
        let text = |value: Option<&Value>| Some(value?.as_str()?.to_owned());
        Some(Registered { name: text(metadata.get("name"))?, address: text(value.get("Addr"))? })
    }
}

/// All registered proxies, by their keys.
pub(crate) type Registry = RefCell<BTreeMap<Vec<u8>, Registered>>;

/// Registers a proxy, again and again when the lease is lost.
pub(crate) async fn register(
    client: Client,
    layers: Rc<Layers>,
    registration: Registration,
    own: Registered,
) {
    loop {
        match register_once(&client, &layers, &registration, &own).await {
            Ok(session) => {
                let ttl = registration.ttl_s;
                tracing::info!(
                    addr = own.address,
                    "lease-ttl" = ttl,
                    "registered session with lease"
                );
                session.done().await;
                tracing::warn!("session expired; possible network partition or server restart");
                tracing::warn!("creating a new session to rejoin");
            }
            Err(error) => tracing::warn!(%error, "failed to create a session"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn register_once(
    client: &Client,
    layers: &Layers,
    registration: &Registration,
    own: &Registered,
) -> Result<Session, Error> {
    let session = Session::with_ttl(client, registration.ttl_s).await?;
    let mut put = pb::PutRequest {
        key: format!("{}/{}", registration.prefix, own.address).into(),
        value: own.to_value().into(),
        lease: session.lease(),
        ..Default::default()
    };
    if let Some(prefix) = &layers.prefix {
        prefix.enter_put(&mut put)?;
    }
    match client.put(put).await {
        Ok(_) => Ok(session),
        Err(error) => {
            // The error of the put is the one that counts; the lease expires anyway.
            session.close().await.ok();
            Err(error)
        }
    }
}

/// Keeps the list of registered proxies up to date.
pub(crate) async fn follow(
    client: Client,
    layers: Rc<Layers>,
    prefix: String,
    registry: Rc<Registry>,
) {
    loop {
        if let Err(error) = follow_once(&client, &layers, &prefix, &registry).await {
            tracing::warn!(prefix, %error, "failed to establish endpoint watch");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow_once(
    client: &Client,
    layers: &Layers,
    prefix: &str,
    registry: &Registry,
) -> Result<(), Error> {
    let key = format!("{prefix}/").into_bytes();
    let end = prefix_end(&key);
    let mut range = pb::RangeRequest {
        key: key.clone().into(),
        range_end: end.clone().into(),
        serializable: true,
        ..Default::default()
    };
    if let Some(prefix) = &layers.prefix {
        prefix.enter_range(&mut range)?;
    }
    let (key, range_end) = (range.key.clone(), range.range_end.clone());
    let found = client.range(range).await?;
    let revision = found.header.map_or(0, |header| header.revision);
    let all = found.kvs.iter().filter_map(|kv| Some((kv.key.to_vec(), parse(kv)?)));
    *registry.borrow_mut() = all.collect();
    let request = pb::WatchCreateRequest {
        key,
        range_end,
        start_revision: revision + 1,
        ..Default::default()
    };
    let mut watcher = client.watch(request).await;
    while let Some(update) = watcher.next().await {
        if let Some(error) = update.error {
            return Err(error);
        }
        for event in update.response.events {
            let (kind, Some(kv)) = (event.r#type(), event.kv) else { continue };
            let mut registry = registry.borrow_mut();
            match (kind, parse(&kv)) {
                (EventType::Put, Some(registered)) => {
                    registry.insert(kv.key.to_vec(), registered);
                }
                (EventType::Delete, _) => _ = registry.remove(&kv.key[..]),
                (EventType::Put, None) => {}
            }
        }
    }
    Ok(())
}

fn parse(kv: &KeyValue) -> Option<Registered> {
    if kv.value.is_empty() {
        return None;
    }
    let registered = Registered::from_value(&kv.value);
    if registered.is_none() {
        let key = String::from_utf8_lossy(&kv.key);
        tracing::warn!(%key, "unmarshal endpoint update failed");
    }
    registered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_a_key_is_etcds() {
        let own = Registered { name: "host".to_owned(), address: "127.0.0.1:1".to_owned() };
        let value = r#"{"Op":0,"Addr":"127.0.0.1:1","Metadata":"{\"name\":\"host\"}"}"#;
        assert_eq!(own.to_value(), value);
        assert_eq!(Registered::from_value(value.as_bytes()), Some(own));
        for wrong in ["", "{}", r#"{"Op":0,"Addr":"a"}"#, r#"{"Addr":"a","Metadata":"x"}"#] {
            assert_eq!(Registered::from_value(wrong.as_bytes()), None, "{wrong}");
        }
    }
}

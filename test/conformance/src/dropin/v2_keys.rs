//! Keys of the v2 API. Only Go's etcd up to 3.5 serves them; ours preserves them for a later Go
//! etcd.

use super::contents::Contents;
use crate::cluster::Node;
use anyhow::Result;
use serde_json::Value;

/// The keys of each step.
const KEYS: u32 = 12;

/// Writes some keys, if the contents are [`Contents::V2`].
pub(super) async fn write(node: &Node, contents: Contents, step: u32) -> Result<()> {
    if contents != Contents::V2 {
        return Ok(());
    }
    for number in 0..KEYS {
        let put = format!("PUT /v2/keys/step{step}/{number}");
        node.http(&put, &format!("value=value+{number}")).await?;
        // Each step overwrites this key.
        node.http("PUT /v2/keys/same", &format!("value={step}.{number}")).await?;
    }
    node.http(&format!("POST /v2/keys/queue{step}"), "value=in+order").await?;
    node.http(&format!("PUT /v2/keys/empty{step}"), "dir=true").await?;
    node.http(&format!("DELETE /v2/keys/step{step}/0"), "").await?;
    Ok(())
}

/// All v2 keys with their indexes.
pub(super) async fn all(node: &Node, contents: Contents) -> Result<Option<Value>> {
    if contents != Contents::V2 {
        return Ok(None);
    }
    let body = node.http("GET /v2/keys/?recursive=true&sorted=true", "").await?;
    Ok(Some(serde_json::from_str(&body)?))
}

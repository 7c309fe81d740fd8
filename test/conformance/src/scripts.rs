//! Scripted exchanges with one server, recorded as lines. They cover behaviour that depends on time
//! or on the grouping of responses, which random requests cannot cover.

mod expiry;
mod grouping;
mod locks;
mod members;
mod peers;
mod transcript;

use crate::server::Server;
use anyhow::{Context, Result};
use transcript::Transcript;

/// The names of all scripts.
pub const NAMES: [&str; 5] = ["grouping", "expiry", "locks", "members", "peers"];

/// Runs a script on a new server. The lines are equal for servers that behave alike.
///
/// # Errors
/// When the server fails or does not send what the script waits for.
pub async fn run(name: &str, server: &Server) -> Result<Vec<String>> {
    let mut transcript = Transcript::new(server).await?;
    let done = match name {
        "grouping" => grouping::run(&mut transcript).await,
        "expiry" => expiry::run(&mut transcript).await,
        "locks" => locks::run(&mut transcript).await,
        "members" => members::run(&mut transcript).await,
        "peers" => peers::run(&mut transcript, server.peer_port()).await,
        other => anyhow::bail!("no script is called {other}"),
    };
    done.with_context(|| format!("{name}, after {:?}", transcript.lines.last()))?;
    Ok(transcript.lines)
}

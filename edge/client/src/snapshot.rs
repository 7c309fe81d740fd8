//! The download of a snapshot: the database of a member, followed by its SHA-256.
//!
//! Source: etcd v3.7.1 client/v3/snapshot/v3_snapshot.go, server/etcdserver/api/v3rpc/maintenance.go.

use crate::call::Client;
use crate::error::Error;
use bytes::Bytes;
use proto::etcdserverpb as pb;
use sha2::{Digest as _, Sha256};
use tokio_stream::StreamExt as _;
use tonic::Streaming;

const HASH_LENGTH: usize = 32;
/// The size of a database is a multiple of this.
const SECTOR: u64 = 512;

/// A snapshot that is being received.
///
/// ```no_run
/// # async fn example(client: client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use std::io::Write as _;
///
/// let mut snapshot = client.snapshot().await?;
/// let mut file = std::fs::File::create("copy.db.part")?;
/// // The end is an error if the snapshot is incomplete or damaged.
/// while let Some(piece) = snapshot.next().await? {
///     file.write_all(&piece)?;
/// }
/// file.sync_all()?;
/// std::fs::rename("copy.db.part", "copy.db")?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Snapshot {
    pieces: Streaming<pb::SnapshotResponse>,
    check: Check,
    version: String,
    /// What the server has still to send, as far as it has said.
    remaining: u64,
}

impl Client {
    /// Starts to download a snapshot from an endpoint.
    ///
    /// # Errors
    /// When there is no connection in time, or the server refuses. The response has no time limit,
    /// since the server may need long to read its disk. Later errors come from [`Snapshot::next`].
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let connecting = async { Ok(self.balancer.pick().await) };
        let connection = self.within_timeout(connecting).await?;
        let request = self.request(tokio_stream::once(pb::SnapshotRequest {}), None)?;
        let pieces =
            self.stream_on(connection, "/etcdserverpb.Maintenance/Snapshot", request).await?;
        Ok(Snapshot { pieces, check: Check::default(), version: String::new(), remaining: 0 })
    }
}

impl Snapshot {
    /// The next piece of the file; `None` after the last one, if the file is complete.
    ///
    /// # Errors
    /// When the transfer fails; [`Error::Snapshot`] if it ends and the checksum is missing or wrong.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(piece) = self.pieces.next().await else {
            return self.check.end().map(|()| None).map_err(Error::Snapshot);
        };
        let piece = piece?;
        if self.version.is_empty() {
            self.version = piece.version;
        }
        self.remaining = piece.remaining_bytes;
        self.check.add(&piece.blob);
        Ok(Some(piece.blob))
    }

    /// The version of the server; empty before the first piece, and for servers before 3.6.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The number of bytes that were received.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.check.size
    }

    /// The number of bytes of the whole file, as far as the server has said.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.check.size + self.remaining
    }
}

/// Hashes all bytes but the last 32, which must be the hash.
#[derive(Debug, Default)]
struct Check {
    size: u64,
    hash: Sha256,
    /// The last bytes. They may be the hash, so they are not hashed yet.
    tail: Vec<u8>,
}

impl Check {
    fn add(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.tail.extend_from_slice(bytes);
        let sure = self.tail.len().saturating_sub(HASH_LENGTH);
        self.hash.update(&self.tail[..sure]);
        self.tail.drain(..sure);
    }

    fn end(&mut self) -> Result<(), String> {
        let size = self.size;
        if size % SECTOR != HASH_LENGTH as u64 {
            return Err(format!("sha256 checksum not found [bytes: {size}]"));
        }
        let hash = std::mem::take(&mut self.hash).finalize();
        if hash[..] != self.tail[..] {
            return Err(format!("sha256 checksum does not match [bytes: {size}]"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_must_end_with_the_hash_of_the_rest() {
        let database = vec![7; 1024];
        let hash = Sha256::digest(&database);
        let mut whole = Check::default();
        for piece in [&database[..1000], &database[1000..], &hash[..5], &hash[5..]] {
            whole.add(piece);
        }
        assert_eq!(whole.end(), Ok(()));
        let mut cut = Check::default();
        cut.add(&database);
        assert_eq!(cut.end(), Err("sha256 checksum not found [bytes: 1024]".to_string()));
        let mut changed = Check::default();
        changed.add(&database);
        changed.add(&[0; 32]);
        assert!(changed.end().is_err());
    }
}

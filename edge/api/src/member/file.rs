//! Reading the database file: its image for a snapshot, its hash, its storage version.
//!
//! Source: etcd v3.7 server/storage/backend/backend.go Hash, storage/schema/bucket.go.

use crate::host::SnapshotFile;
use bolt::{Copier, Error, View};
use bytes::Bytes;
use server::metrics::Metrics;
use std::sync::Arc;
use std::time::Instant;

const META: &[u8] = b"meta";
/// Keys of the bucket `meta` that are not hashed, because they differ between members with equal
/// data.
const NOT_HASHED: [&[u8]; 3] =
    [backend::meta::CONSISTENT_INDEX, backend::meta::TERM, backend::meta::STORAGE_VERSION];

/// The storage version as text; empty if unknown.
pub(super) fn storage_version(file: &View) -> String {
    let field = |key: &[u8]| file.get(META, key).ok().flatten();
    let term = field(backend::meta::TERM)
        .and_then(|bytes| Some(u64::from_be_bytes(bytes[..].try_into().ok()?)));
    let stored = field(backend::meta::STORAGE_VERSION);
    match cluster::StorageVersion::detect(stored.as_deref(), term.unwrap_or(0)) {
        Ok(cluster::StorageVersion::Known(version)) => version.to_string(),
        Ok(cluster::StorageVersion::Unknown) | Err(_) => String::new(),
    }
}

/// The CRC-32C of all buckets by name: the name, then each key and value.
pub(super) fn hash(file: &View) -> Result<u32, Error> {
    let mut hash = 0;
    for bucket in file.buckets() {
        hash = crc32c::crc32c_append(hash, bucket);
        let mut cursor = file.cursor(bucket, false);
        while let Some((key, value)) = cursor.next()? {
            if &bucket[..] == META && NOT_HASHED.contains(&&key[..]) {
                continue;
            }
            hash = crc32c::crc32c_append(hash, &key);
            hash = crc32c::crc32c_append(hash, &value);
        }
    }
    Ok(hash)
}

/// The file image of a snapshot.
pub(super) struct Image {
    copier: Copier,
    version: String,
    begun: Instant,
    metrics: Arc<Metrics>,
}

impl Drop for Image {
    /// Its client has the image, or is gone.
    fn drop(&mut self) {
        let seconds = &self.metrics.disk.backend.snapshot;
        seconds.observe(self.begun.elapsed().as_secs_f64());
    }
}

impl Image {
    pub(super) fn new(file: &View, metrics: Arc<Metrics>) -> Image {
        // Only a version that is stored in the file; an inferred one is not reported.
        let stored = file.get(META, backend::meta::STORAGE_VERSION).ok().flatten();
        let version = stored.map(|text| String::from_utf8_lossy(&text).into_owned());
        let version = version.unwrap_or_default();
        Image { copier: file.copy(), version, begun: Instant::now(), metrics }
    }
}

impl SnapshotFile for Image {
    fn size(&self) -> u64 {
        self.copier.len()
    }

    fn version(&self) -> String {
        self.version.clone()
    }

    fn next(&mut self) -> Result<Bytes, String> {
        let chunk = self.copier.next_chunk().map_err(|error| error.to_string())?;
        Ok(chunk.unwrap_or_default())
    }
}

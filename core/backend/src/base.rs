//! Reads of the database file by [`Bucket`]. A bucket that is missing in the file reads as empty.

use crate::bucket::Bucket;
use crate::error::Error;
use bolt::Lookup;
use bytes::Bytes;

pub(crate) fn get(base: &bolt::View, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
    Ok(base.get(bucket.name(), key)?)
}

pub(crate) fn try_get(base: &bolt::View, bucket: Bucket, key: &[u8]) -> Result<Lookup, Error> {
    Ok(base.try_get(bucket.name(), key)?)
}

/// A cursor over a bucket of the file.
#[derive(Debug)]
pub(crate) struct FileCursor(bolt::Cursor);

impl FileCursor {
    pub(crate) fn new(
        base: &bolt::View,
        bucket: Bucket,
        from: &[u8],
        cached: bool,
    ) -> Result<FileCursor, Error> {
        let mut cursor = base.cursor(bucket.name(), cached);
        cursor.seek(from)?;
        Ok(FileCursor(cursor))
    }

    pub(crate) fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        Ok(self.0.next()?)
    }
}

//! The storage version of a database, and the steps from one version to another.
//!
//! Source: etcd v3.7.1 server/storage/schema/{schema,migration}.go.

use crate::failure::{Code, CommandResult};
use backend::ReadView;
use bolt::View;
use bytes::Bytes;
use cluster::{SERVER_MINOR, StorageVersion, Version};

/// The oldest storage version; a database has it if it stores a raft term and no version.
pub(crate) const V3_5: Version = Version { major: 3, minor: 5, patch: 0 };
/// The oldest version that databases record.
pub(crate) const V3_6: Version = Version { major: 3, minor: 6, patch: 0 };
/// The bucket that holds the version.
const META: &[u8] = b"meta";

/// The storage version of a database, which may be newer than this program. `None` if the database
/// records none and was not written by etcd 3.5.
///
/// # Errors
/// When the database cannot be read, or the recorded text is not a version.
pub(crate) fn detect(view: &View) -> CommandResult<Option<Version>> {
    let stored = view.get(META, StorageVersion::KEY).map_err(|error| Code::Error.with(error))?;
    let Some(stored) = stored else {
        let applied = ReadView::of_file(view.clone()).applied();
        let term = applied.map_err(|error| Code::Error.with(error))?.term;
        return Ok((term.0 > 0).then_some(V3_5));
    };
    let text = String::from_utf8_lossy(&stored);
    let version = Version::parse(&text).map_err(|error| {
        Code::Error.with(format!("the storage version of the database is damaged: {error}"))
    })?;
    Ok(Some(version.of_cluster()))
}

/// The versions on the way from one version to another; the last one is the target.
///
/// # Errors
/// When this program does not know one of them.
pub(crate) fn plan(from: Version, to: Version) -> Result<Vec<Version>, String> {
    if from.major != to.major {
        return Err("changing major storage version is not supported".to_string());
    }
    let mut steps = Vec::new();
    let mut at = from;
    while at != to {
        let is_upgrade = at.minor < to.minor;
        let newer = if is_upgrade { Version { minor: at.minor + 1, ..at } } else { at };
        if !(V3_6..=SERVER_MINOR).contains(&newer) {
            return Err(format!("version \"{newer}\" is not supported"));
        }
        at = if is_upgrade { newer } else { Version { minor: at.minor - 1, ..at } };
        steps.push(at);
    }
    Ok(steps)
}

/// Stores a version. For a version that does not record one, deletes the field.
///
/// # Errors
/// When the database cannot be written.
pub(crate) fn store(db: &mut bolt::Db, version: Version) -> Result<(), bolt::Error> {
    let mut tx = db.begin();
    tx.create_bucket(META)?;
    if version < V3_6 {
        tx.delete(META, StorageVersion::KEY)?;
    } else {
        let text = Bytes::from(version.to_string().into_bytes());
        tx.put(META, Bytes::from_static(StorageVersion::KEY), text)?;
    }
    tx.commit().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(from: u64, to: u64) -> Result<Vec<u64>, String> {
        let version = |minor| Version { major: 3, minor, patch: 0 };
        plan(version(from), version(to)).map(|steps| steps.iter().map(|step| step.minor).collect())
    }

    #[test]
    fn a_plan_goes_through_every_version() {
        assert_eq!(way(5, 7), Ok(vec![6, 7]));
        assert_eq!(way(7, 5), Ok(vec![6, 5]));
        assert_eq!(way(6, 6), Ok(Vec::new()));
    }

    #[test]
    fn versions_that_are_not_known_are_refused() {
        let unsupported = |minor: u64| Err(format!("version \"3.{minor}.0\" is not supported"));
        assert_eq!(way(7, 8), unsupported(8));
        assert_eq!(way(5, 9), unsupported(8));
        assert_eq!(way(8, 7), unsupported(8));
        assert_eq!(way(6, 4), unsupported(5));
        let next = Version { major: 4, minor: 0, patch: 0 };
        assert_eq!(
            plan(SERVER_MINOR, next),
            Err("changing major storage version is not supported".to_string())
        );
    }
}

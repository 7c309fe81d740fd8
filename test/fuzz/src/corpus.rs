//! The corpus from files of other etcd versions, if they are available (`RETCD_TESTDATA`). Each
//! file is cut to a size that allows many runs. The targets generate further inputs.

use crate::mutate::INPUT_BYTES_MAX;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The files of other etcd versions for a target; none if there is no test data.
///
/// # Errors
/// When there is test data that cannot be read.
pub fn left_by_others(target: &str) -> Result<Vec<Vec<u8>>> {
    let Some(data) = std::env::var_os("RETCD_TESTDATA") else { return Ok(Vec::new()) };
    let ending = match target {
        "wal" => ".wal",
        "bolt" => "db",
        "snapshot" => ".snap",
        _ => return Ok(Vec::new()),
    };
    let data = Path::new(&data).join("go-data");
    let mut found = Vec::new();
    for archive in ["3.4.23-plain-KILL", "3.5.30-plain-TERM", "3.7.1-plain-KILL", "3.5.30-v2"] {
        let directory = tempfile::tempdir()?;
        let archive = data.join(format!("{archive}.tar.gz"));
        let status = Command::new("tar")
            .args(["--sparse", "-xzf"])
            .arg(&archive)
            .arg("-C")
            .arg(directory.path())
            .status()
            .context("cannot run tar")?;
        ensure!(status.success(), "cannot unpack {}", archive.display());
        for path in files(directory.path())? {
            if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ending)) {
                found.push(beginning(&path)?);
            }
        }
    }
    ensure!(!found.is_empty(), "no file of {} ends in {ending}", data.display());
    found.sort();
    found.dedup();
    Ok(found)
}

/// The files below a directory.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// The start of a file, without the zeros at the end of a segment.
fn beginning(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let max = u64::try_from(INPUT_BYTES_MAX)?;
    File::open(path)?.take(max).read_to_end(&mut bytes)?;
    if path.extension().is_some_and(|extension| extension == "wal") {
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(used + 1024);
    }
    Ok(bytes)
}

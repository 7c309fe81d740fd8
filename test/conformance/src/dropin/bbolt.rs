//! The official tool for bbolt's files: `bbolt check` reads a database file page by page.

use anyhow::{Context as _, Result, bail, ensure};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The module of the tool, at the version of bbolt that etcd 3.6 uses.
const MODULE: &str = "go.etcd.io/bbolt/cmd/bbolt@v1.4.3";
/// The time limit of its installation.
const INSTALLED_WITHIN: Duration = Duration::from_secs(180);
/// The two pages that say where the others are.
const META_BYTES: u64 = 2 * 4096;
/// How often a copy is tried.
const COPIES_MAX: u32 = 100;
const POLL: Duration = Duration::from_millis(50);

/// The tool, or nothing: then no file is checked.
#[derive(Clone, Debug, Default)]
pub struct Bbolt(Option<PathBuf>);

impl Bbolt {
    /// The installed tool at this path.
    #[must_use]
    pub fn at(path: Option<PathBuf>) -> Bbolt {
        Bbolt(path)
    }

    /// Installs the tool below the user's cache with `go install`, unless it is there already.
    /// Returns its path.
    ///
    /// # Errors
    /// When there is no Go, or the tool cannot be had.
    pub fn install() -> Result<PathBuf> {
        let home = std::env::var_os("HOME").context("there is no HOME")?;
        let version = MODULE.rsplit('@').next().unwrap_or_default();
        let dir = Path::new(&home).join(".cache/retcd-bbolt").join(version);
        let program = dir.join("bbolt");
        if program.exists() {
            return Ok(program);
        }
        let mut child = Command::new("go")
            .args(["install", MODULE])
            .env("GOBIN", &dir)
            .stdin(Stdio::null())
            .spawn()
            .context("go is not installed")?;
        let deadline = Instant::now() + INSTALLED_WITHIN;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                bail!("go install {MODULE} did not end within {INSTALLED_WITHIN:?}");
            }
            std::thread::sleep(POLL);
        };
        ensure!(status.success(), "go install {MODULE} failed");
        Ok(program)
    }

    /// Fails if the tool finds a fault in this file. The file is not opened by anybody else.
    ///
    /// # Errors
    /// What the tool found.
    pub fn check(&self, file: &Path) -> Result<()> {
        let Some(program) = &self.0 else { return Ok(()) };
        let output = Command::new(program).arg("check").arg(file).output();
        let output = output.with_context(|| format!("cannot start {}", program.display()))?;
        let (out, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let is_good = is_good(output.status.success(), &out);
        ensure!(is_good, "bbolt check {}: {}\n{out}{errors}", file.display(), output.status);
        Ok(())
    }

    /// As [`Bbolt::check`], of a copy of a file that a server has open and hardly writes to. The copy
    /// is made again until no commit came between.
    ///
    /// # Errors
    /// What the tool found.
    pub fn check_copy(&self, file: &Path) -> Result<()> {
        if self.0.is_none() {
            return Ok(());
        }
        let dir = tempfile::tempdir()?;
        let copy = dir.path().join("db");
        for _ in 0..COPIES_MAX {
            let before = metas(file)?;
            std::fs::copy(file, &copy)
                .with_context(|| format!("cannot copy {}", file.display()))?;
            if metas(file)? == before {
                return self.check(&copy);
            }
        }
        bail!("{} changes all the time", file.display())
    }
}

/// The first pages, which each commit changes.
fn metas(file: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(META_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether the tool found no fault. It prints each fault, and `OK` if there is none.
fn is_good(has_succeeded: bool, out: &str) -> bool {
    has_succeeded && out.trim() == "OK"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_the_tool_calls_good_is_good() {
        assert!(is_good(true, "OK\n"));
        assert!(!is_good(false, "OK\n"));
        assert!(!is_good(true, "page 7: unreachable unfreed\nOK\n"));
        assert!(!is_good(true, ""));
    }

    #[test]
    fn without_the_tool_nothing_is_checked() {
        Bbolt::default().check(Path::new("/nothing")).unwrap();
        assert!(Bbolt::at(Some("/nothing".into())).check(Path::new("/nothing")).is_err());
    }
}

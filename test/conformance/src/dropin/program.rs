//! A server's program and its version.

use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The name of our server in reports.
const OURS: &str = "ours";

/// A program.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its file.
    pub path: PathBuf,
    /// Its name in reports.
    pub name: String,
    /// The version that it reports, such as `3.5.30`.
    pub version: String,
}

impl Program {
    /// Our server.
    ///
    /// # Errors
    /// When it does not report its version.
    pub fn ours(path: &Path) -> Result<Program> {
        Ok(Program { name: OURS.to_owned(), ..Program::theirs(path)? })
    }

    /// Go's etcd. Its name is its version.
    ///
    /// # Errors
    /// When it does not report its version.
    pub fn theirs(path: &Path) -> Result<Program> {
        let output = Command::new(path).arg("--version").output();
        let output = output.with_context(|| format!("cannot start {}", path.display()))?;
        let text = String::from_utf8(output.stdout)?;
        let version = text.lines().find_map(|line| line.strip_prefix("etcd Version: "));
        let version = version.with_context(|| format!("{} says no version", path.display()))?;
        let version = version.trim().to_owned();
        Ok(Program { path: path.to_owned(), name: version.clone(), version })
    }

    /// Whether it is our server.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.name == OURS
    }

    /// The major and the minor version, such as `(3, 5)`.
    #[must_use]
    pub fn minor(&self) -> (u64, u64) {
        let mut numbers = self.version.split('.').map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// How many acknowledged writes it may lose when it is killed. Some versions store the index of
    /// an entry before its changes, so a commit in between loses these changes (etcd issue 13766).
    #[must_use]
    pub fn lost_by_kill_max(&self) -> usize {
        let is_one = self.version.starts_with("3.4.")
            || ["3.5.0", "3.5.1", "3.5.2"].contains(&self.version.as_str());
        usize::from(is_one)
    }

    /// The flags that it needs to log in the format of the other versions.
    #[must_use]
    pub fn log_flags(&self) -> Vec<String> {
        // 3.4 logs in another format by default.
        let is_old = self.version.starts_with("3.4.");
        if is_old { vec!["--logger=zap".to_owned()] } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_with_the_fault_may_lose_a_write() {
        let lost = |version: &str| {
            let version = version.to_owned();
            let program = Program { path: PathBuf::new(), name: version.clone(), version };
            program.lost_by_kill_max()
        };
        assert_eq!(["3.4.23", "3.5.1", "3.5.2"].map(lost), [1, 1, 1]);
        assert_eq!(["3.5.3", "3.5.10", "3.5.30", "3.7.1"].map(lost), [0, 0, 0, 0]);
    }
}

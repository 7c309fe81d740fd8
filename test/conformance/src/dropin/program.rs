//! A server's program, and the version that it says.

use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its file.
    pub path: PathBuf,
    /// How reports call it.
    pub name: String,
    /// The version that it says, such as `3.5.30`.
    pub version: String,
}

impl Program {
    /// Our server.
    ///
    /// # Errors
    /// When it does not say its version.
    pub fn ours(path: &Path) -> Result<Program> {
        Ok(Program { name: "ours".to_owned(), ..Program::theirs(path)? })
    }

    /// Go's etcd. It is called by its version.
    ///
    /// # Errors
    /// When it does not say its version.
    pub fn theirs(path: &Path) -> Result<Program> {
        let output = Command::new(path).arg("--version").output();
        let output = output.with_context(|| format!("cannot start {}", path.display()))?;
        let text = String::from_utf8(output.stdout)?;
        let version = text.lines().find_map(|line| line.strip_prefix("etcd Version: "));
        let version = version.with_context(|| format!("{} says no version", path.display()))?;
        let version = version.trim().to_owned();
        Ok(Program { path: path.to_owned(), name: version.clone(), version })
    }

    /// The flags that it needs to log as the others do.
    #[must_use]
    pub fn log_flags(&self) -> Vec<String> {
        // 3.4 writes another format unless it is told.
        let is_old = self.version.starts_with("3.4.");
        if is_old { vec!["--logger=zap".to_owned()] } else { Vec::new() }
    }
}

//! The command-line programs for snapshots: `etcdctl` and `etcdutl`, ours and Go's.

use super::access::ROOT;
use super::program::Program;
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program that saves snapshots, or one that reads and restores them.
#[derive(Clone, Debug)]
pub(super) struct Tool {
    path: PathBuf,
    /// Its name in reports, such as `etcdctl 3.5.30`.
    pub(super) name: String,
    /// Whether it is ours.
    pub(super) is_ours: bool,
}

/// The end of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// Its exit code; `None` after a signal.
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) errors: String,
}

impl Ended {
    /// The last error message, without `Error: `.
    pub(super) fn message(&self) -> &str {
        let mut lines = self.errors.lines().rev();
        lines.find_map(|line| line.strip_prefix("Error: ")).unwrap_or_default()
    }
}

impl Tool {
    /// The `etcdctl` beside a server.
    pub(super) fn ctl(server: &Program) -> Result<Tool> {
        let tool = Tool::beside(server, "etcdctl");
        tool.with_context(|| format!("there is no etcdctl beside {}", server.path.display()))
    }

    /// The programs beside a server that read and restore snapshots: `etcdutl` if there is one,
    /// and `etcdctl` of 3.5 and before.
    pub(super) fn for_files(server: &Program) -> Result<Vec<Tool>> {
        let ctl = if server.is_ours() { None } else { Some(Tool::ctl(server)?) };
        let tools: Vec<Tool> = Tool::beside(server, "etcdutl").into_iter().chain(ctl).collect();
        ensure!(!tools.is_empty(), "there is no etcdutl beside {}", server.path.display());
        Ok(tools)
    }

    fn beside(server: &Program, name: &str) -> Option<Tool> {
        let path = std::path::absolute(server.path.with_file_name(name)).ok()?;
        let is_ours = server.is_ours();
        path.exists().then(|| Tool { path, name: format!("{name} {}", server.name), is_ours })
    }

    /// Runs it in a directory until it ends.
    pub(super) fn run(&self, dir: &Path, words: &[&str]) -> Result<Ended> {
        let output = Command::new(&self.path)
            .args(words)
            .current_dir(dir)
            // The default of 3.4 is version 2.
            .env("ETCDCTL_API", "3")
            .output()
            .with_context(|| format!("cannot start {}", self.path.display()))?;
        Ok(Ended {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs it, and fails if it fails. Returns its output.
    pub(super) fn done(&self, dir: &Path, words: &[&str]) -> Result<String> {
        let ended = self.run(dir, words)?;
        ensure!(ended.code == Some(0), "{} {words:?} has ended with {ended:?}", self.name);
        Ok(ended.out)
    }

    /// Saves a snapshot of a member as root.
    pub(super) fn save(&self, url: &str, file: &Path) -> Result<()> {
        let user = format!("--user={}:{}", ROOT.0, ROOT.1);
        let file = file.display().to_string();
        self.done(Path::new("/"), &["--endpoints", url, &user, "snapshot", "save", &file])?;
        Ok(())
    }
}

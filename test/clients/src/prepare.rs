//! Installs the clients from their package registries into a directory outside the repository, with
//! the default settings of the package managers. The lock files beside the programs pin the
//! versions. A directory that was prepared from the same files is used again.

use crate::list::{Client, Language};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The time limit of one command of an installation.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(180);

/// The interval at which a running command is checked.
const POLL: Duration = Duration::from_millis(50);

/// A client that is ready to run.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its working directory.
    pub dir: PathBuf,
    /// Program and arguments.
    pub words: Vec<String>,
}

/// The files to write into a program's directory: name and text.
type Files = Vec<(String, String)>;

/// Old and new import paths: before 3.5, clientv3 was a part of the server's module.
const BEFORE_3_5: [(&str, &str); 2] = [
    ("go.etcd.io/etcd/client/v3", "go.etcd.io/etcd/clientv3"),
    ("go.etcd.io/etcd/api/v3/mvccpb", "go.etcd.io/etcd/mvcc/mvccpb"),
];

/// Installs a client below `cache`; `sources` is the directory of this crate.
///
/// # Errors
/// When a tool is missing or fails. The error contains its last output.
pub fn prepare(client: &Client, sources: &Path, cache: &Path) -> Result<Program> {
    let version = client.version;
    let (files, commands, words): (Files, Vec<Vec<&str>>, Vec<&str>) = match client.language {
        Language::Go => (
            go_files(&sources.join("go"), version)?,
            vec![vec!["go", "build", "-mod=readonly", "-o", "steps", "."]],
            vec!["./steps"],
        ),
        Language::Python => {
            let files = python_files(&sources.join("python"), client.name)?;
            let pip =
                vec!["venv/bin/python", "-m", "pip", "install", "-q", "-r", "requirements.txt"];
            let commands = vec![vec!["python3", "-m", "venv", "venv"], pip];
            (files, commands, vec!["venv/bin/python", "-u", "steps.py"])
        }
        Language::Node => (
            read_all(&sources.join("node"), &["package.json", "package-lock.json", "steps.js"])?,
            vec![vec!["npm", "ci", "--silent", "--ignore-scripts"]],
            vec!["node", "steps.js"],
        ),
        Language::Java => {
            let copy = vec![
                "mvn",
                "-q",
                "-B",
                "-Dstyle.color=never",
                "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies",
                "-DoutputDirectory=lib",
            ];
            let compile = vec!["javac", "-cp", "lib/*", "Steps.java"];
            let files = read_all(&sources.join("java"), &["pom.xml", "Steps.java"])?;
            (files, vec![copy, compile], vec!["java", "-cp", "lib/*:.", "Steps"])
        }
    };
    // The Kubernetes pattern is another argument of the same program.
    let dir = std::path::absolute(cache)?.join(format!("{}-{version}", client.name));
    install(&dir, &files, &commands)?;
    Ok(Program { dir, words: words.into_iter().map(str::to_owned).collect() })
}

/// Builds the relay that speaks grpc-go on both sides, and returns its path.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_relay(sources: &Path, cache: &Path) -> Result<PathBuf> {
    let files = read_all(&sources.join("go/relay"), &["go.mod", "go.sum", "main.go"])?;
    let dir = std::path::absolute(cache)?.join("grpc-go-relay");
    install(&dir, &files, &[vec!["go", "build", "-mod=readonly", "-o", "relay", "."]])?;
    Ok(dir.join("relay"))
}

fn read_all(dir: &Path, names: &[&str]) -> Result<Files> {
    let read = |name: &&str| Ok(((*name).to_owned(), read(&dir.join(name))?));
    names.iter().map(read).collect()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn go_files(dir: &Path, version: &str) -> Result<Files> {
    let mut files = read_all(&dir.join("versions").join(version), &["go.mod", "go.sum"])?;
    let mut names: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(dir.join("steps"))? {
        names.push(entry?.path());
    }
    names.sort();
    for path in names {
        let mut text = read(&path)?;
        if version.starts_with("3.4.") {
            for (new, old) in BEFORE_3_5 {
                text = text.replace(new, old);
            }
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push((name, text));
    }
    Ok(files)
}

fn python_files(dir: &Path, name: &str) -> Result<Files> {
    let file = |to: &str, from: String| -> Result<(String, String)> {
        Ok((to.to_owned(), read(&dir.join(from))?))
    };
    Ok(vec![
        file("requirements.txt", format!("{name}.txt"))?,
        file("lines.py", "lines.py".to_owned())?,
        file("steps.py", format!("{}.py", name.replace('-', "_")))?,
    ])
}

/// Writes the files into `dir` and runs the commands there, unless that was already done with the
/// same files.
fn install(dir: &Path, files: &Files, commands: &[Vec<&str>]) -> Result<()> {
    let mut hasher = DefaultHasher::new();
    (files, commands).hash(&mut hasher);
    let (stamp, of_these) = (dir.join(".prepared"), hasher.finish().to_string());
    if fs::read_to_string(&stamp).is_ok_and(|text| text == of_these) {
        return Ok(());
    }
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir)?;
    for (name, text) in files {
        fs::write(dir.join(name), text)?;
    }
    for words in commands {
        run(dir, words, COMMAND_TIME_MAX)?;
    }
    Ok(fs::write(stamp, of_these)?)
}

/// Runs a command to its end, or kills it and its children after `time_max`.
fn run(dir: &Path, words: &[&str], time_max: Duration) -> Result<()> {
    let printed = dir.join(".printed");
    let output = File::create(&printed)?;
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(dir).process_group(0).stdin(Stdio::null());
    command.stdout(output.try_clone()?).stderr(output);
    let mut child = command.spawn().with_context(|| format!("{} is not installed", words[0]))?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > time_max {
            let group = format!("-{}", child.id());
            Command::new("kill").args(["-KILL", "--", &group]).status()?;
            child.wait()?;
            bail!("`{}` did not end within {time_max:?}", words.join(" "));
        }
        std::thread::sleep(POLL);
    };
    if !status.success() {
        let text = fs::read(&printed)?;
        let text = String::from_utf8_lossy(&text);
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        bail!("`{}` failed: {last}", words.join(" "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_are_installed_once_and_others_again() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("client");
        let files = |text: &str| vec![("a".to_owned(), text.to_owned())];
        let count = [vec!["sh", "-c", "echo once >> ../count"]];
        let runs = || fs::read_to_string(dir.with_file_name("count")).unwrap().lines().count();
        install(&dir, &files("1"), &count).unwrap();
        install(&dir, &files("1"), &count).unwrap();
        assert_eq!(runs(), 1);
        install(&dir, &files("2"), &count).unwrap();
        assert_eq!(runs(), 2);
    }

    #[test]
    fn a_missing_tool_and_a_failing_one_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let error =
            |words: &[&str]| run(dir.path(), words, COMMAND_TIME_MAX).unwrap_err().to_string();
        assert_eq!(error(&["no-such-tool"]), "no-such-tool is not installed");
        let failing = error(&["sh", "-c", "echo why; exit 1"]);
        assert!(failing.ends_with("failed: why"), "{failing}");
    }

    #[test]
    fn a_command_that_does_not_end_is_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let error = run(dir.path(), &["sleep", "1000"], Duration::ZERO).unwrap_err().to_string();
        assert_eq!(error, "`sleep 1000` did not end within 0ns");
    }
}

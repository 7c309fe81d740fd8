//! Runs mutations on a copy of the tree, one at a time.
//!
//! The copy and its build stay in `target/mutate`, so that the next run compiles only what is new.

use super::list::Mutation;
use anyhow::{Context, bail, ensure};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a test may run with a mutation.
const TEST_TIME_MAX: Duration = Duration::from_secs(180);

/// How often a running test is looked at.
const POLL: Duration = Duration::from_millis(20);

/// The result of the tests with a mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This test failed.
    Caught(String),
    /// Every test passed.
    Survived,
    /// The tests did not end in time.
    Hung,
    /// The mutated code does not compile.
    Broken,
}

/// A copy of the workspace to change.
#[derive(Debug)]
pub(crate) struct Copy {
    tree: PathBuf,
    build: PathBuf,
    output: PathBuf,
}

impl Copy {
    /// Brings the copy up to date with the tree. Files that are equal keep their times, so that
    /// cargo does not compile them again.
    ///
    /// # Errors
    /// When git cannot list the files, or a file cannot be copied.
    pub(crate) fn update(root: &Path) -> anyhow::Result<Self> {
        let folder = root.join("target/mutate");
        let tree = folder.join("tree");
        fs::create_dir_all(&tree)?;
        let files = tracked(root)?;
        for name in &files {
            let Ok(wanted) = fs::read(root.join(name)) else { continue };
            let copied = tree.join(name);
            if fs::read(&copied).is_ok_and(|present| present == wanted) {
                continue;
            }
            fs::create_dir_all(copied.parent().unwrap_or(&tree))?;
            fs::write(&copied, wanted).with_context(|| copied.display().to_string())?;
        }
        remove_others(&tree, &tree, &files)?;
        Ok(Self { tree, build: folder.join("build"), output: folder.join("output") })
    }

    /// Runs tests on the copy as it is; the first that failed, if any did.
    ///
    /// # Errors
    /// When they do not compile, do not end, or there are none.
    pub(crate) fn baseline(&self, test: &[String]) -> anyhow::Result<()> {
        match self.test(test)? {
            (Verdict::Survived, output) => {
                ensure!(passed(&output) > 0, "{}: there is no such test", test.join(" "));
                Ok(())
            }
            (verdict, output) => {
                bail!("{} without a mutation: {verdict:?}\n{output}", test.join(" "))
            }
        }
    }

    /// Applies a mutation, runs its test, and takes the mutation back.
    ///
    /// # Errors
    /// When the mutation's text is not found, or a file or process fails.
    pub(crate) fn try_out(&self, mutation: &Mutation) -> anyhow::Result<Verdict> {
        let path = self.tree.join(&mutation.file);
        let text = fs::read_to_string(&path).with_context(|| mutation.file.clone())?;
        fs::write(&path, mutation.apply(&text)?)?;
        let verdict = self.test(&mutation.test);
        fs::write(&path, text)?;
        Ok(verdict?.0)
    }

    fn test(&self, test: &[String]) -> anyhow::Result<(Verdict, String)> {
        let build = self.cargo(test, true)?.wait()?;
        if !build.success() {
            return Ok((Verdict::Broken, self.printed()?));
        }
        let mut child = self.cargo(test, false)?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if started.elapsed() > TEST_TIME_MAX {
                stop(&mut child)?;
                return Ok((Verdict::Hung, self.printed()?));
            }
            std::thread::sleep(POLL);
        };
        let output = self.printed()?;
        let verdict =
            if status.success() { Verdict::Survived } else { Verdict::Caught(failed(&output)) };
        Ok((verdict, output))
    }

    fn cargo(&self, test: &[String], only_build: bool) -> anyhow::Result<Child> {
        let output = File::create(&self.output)?;
        let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
        command.args(["test", "--quiet", "--offline"]);
        if only_build {
            command.arg("--no-run");
        }
        command.args(test).current_dir(&self.tree);
        command.env("CARGO_TARGET_DIR", &self.build).env("CARGO_PROFILE_DEV_DEBUG", "0");
        command.env("RUST_BACKTRACE", "0").env_remove("RUSTFLAGS");
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        command.process_group(0).spawn().context("cannot start cargo")
    }

    fn printed(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.output)?).into_owned())
    }
}

/// Ends a test with everything that it started.
fn stop(child: &mut Child) -> anyhow::Result<()> {
    let group = format!("-{}", child.id());
    Command::new("kill").args(["-KILL", "--", &group]).status().context("cannot start kill")?;
    child.wait()?;
    Ok(())
}

/// The files of the tree that git knows or does not ignore.
fn tracked(root: &Path) -> anyhow::Result<BTreeSet<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("cannot start git")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let files = text.split('\0').filter(|name| !name.is_empty() && root.join(name).is_file());
    Ok(files.map(str::to_owned).collect())
}

/// Removes files of the copy that the tree does not have.
fn remove_others(folder: &Path, tree: &Path, files: &BTreeSet<String>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.strip_prefix(tree)?.display().to_string();
        if path.is_dir() {
            remove_others(&path, tree, files)?;
        } else if !files.contains(&name) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// How many tests passed, after the summaries of libtest.
fn passed(output: &str) -> usize {
    let summaries = output.lines().filter_map(|line| line.strip_prefix("test result: "));
    let counts = summaries.filter_map(|line| line.split_once(" passed"));
    counts.filter_map(|(before, _)| before.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}

/// The first test that failed, or what else ended the tests.
fn failed(output: &str) -> String {
    let first = output.lines().find_map(|line| {
        line.strip_prefix("---- ")?.strip_suffix(" stdout ----").map(str::to_owned)
    });
    first.unwrap_or_else(|| {
        let error = output.lines().find(|line| line.starts_with("error: "));
        error.unwrap_or("the test process failed").to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failed_test_is_named() {
        let output = "running 2 tests\n.F\nfailures:\n\n---- crash::it_is_kept stdout ----\n\
                      panicked\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored\n";
        assert_eq!(failed(output), "crash::it_is_kept");
        assert_eq!(failed("x\nerror: test failed (signal: 6)\n"), "error: test failed (signal: 6)");
    }

    #[test]
    fn passed_tests_are_counted_over_all_programs() {
        let output = "test result: ok. 12 passed; 0 failed\n\ntest result: ok. 0 passed; 0 failed\n\
                      test result: ok. 3 passed; 0 failed\n";
        assert_eq!(passed(output), 15);
        assert_eq!(passed(""), 0);
    }

    #[test]
    fn a_test_that_hangs_is_stopped_with_its_children() {
        let mut child =
            Command::new("sh").args(["-c", "sleep 100 & wait"]).process_group(0).spawn().unwrap();
        stop(&mut child).unwrap();
        let group = format!("-{}", child.id());
        let mut left = true;
        // The kernel takes a moment to remove the grandchild.
        for _ in 0..10_000 {
            let kill =
                Command::new("kill").args(["-0", "--", &group]).stderr(Stdio::null()).status();
            left = kill.unwrap().success();
            if !left {
                break;
            }
        }
        assert!(!left);
    }
}

//! Files that are no good snapshots, and directories that exist: `snapshot status` and `snapshot
//! restore` of ours must give the same result, or the same refusal, as each of Go's.
//!
//! The differences that are allowed are rows of `docs/differences.md`.

use super::program::Program;
use super::tool::{Ended, Tool};
use anyhow::{Context as _, Result, bail, ensure};
use bolt::{Db, Options, PageCache};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use vfs::RealDisk;

/// The bytes of the hash at the end of a snapshot.
const HASH: usize = 32;
/// The name of every bad snapshot.
const FILE: &str = "s.db";
/// The commands that are tried on each.
const COMMANDS: [&[&str]; 3] = [
    &["snapshot", "status", FILE, "-w", "json"],
    &["snapshot", "restore", FILE, "--data-dir", "d"],
    &["snapshot", "restore", FILE, "--data-dir", "d", "--skip-hash-check"],
];

/// A kind of bad input.
struct Input {
    name: &'static str,
    /// Creates it in a directory from a good snapshot.
    create: fn(&Path, &[u8]) -> Result<()>,
}

fn write(dir: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    Ok(fs::write(dir.join(FILE), bytes)?)
}

/// The snapshot whose byte at `offset` from the end has another value.
fn altered(good: &[u8], from_end: usize) -> Vec<u8> {
    let mut bytes = good.to_vec();
    let at = bytes.len() - from_end;
    bytes[at] ^= 0x55;
    bytes
}

fn hashed(mut database: Vec<u8>) -> Vec<u8> {
    let hash = Sha256::digest(&database);
    database.extend_from_slice(&hash);
    database
}

/// A database whose only bucket is not etcd's.
fn other_database(dir: &Path) -> Result<Vec<u8>> {
    let path = dir.join("other");
    let cache = Arc::new(PageCache::new(1 << 20));
    let options = Options { new_page_size: 4096, cache, read_only: false };
    let mut db = Db::open(&RealDisk, &path, options)?;
    let mut tx = db.begin();
    tx.create_bucket(b"other")?;
    tx.put(b"other", "a".into(), "b".into())?;
    tx.commit()?;
    drop(db);
    let bytes = fs::read(&path)?;
    fs::remove_file(path)?;
    Ok(bytes)
}

const INPUTS: &[Input] = &[
    Input { name: "a good snapshot", create: |dir, good| write(dir, good) },
    Input { name: "no file", create: |_, _| Ok(()) },
    Input { name: "a directory", create: |dir, _| Ok(fs::create_dir(dir.join(FILE))?) },
    Input { name: "an empty file", create: |dir, _| write(dir, "") },
    Input { name: "a line of text", create: |dir, _| write(dir, "not a database\n") },
    Input { name: "a long text", create: |dir, _| write(dir, "not a database\n".repeat(5000)) },
    Input { name: "zeros", create: |dir, _| write(dir, [0; 65_536]) },
    Input { name: "zeros with a hash", create: |dir, _| write(dir, hashed(vec![0; 65_536])) },
    Input { name: "half of it", create: |dir, good| write(dir, &good[..good.len() / 2]) },
    Input { name: "without its hash", create: |dir, good| write(dir, &good[..good.len() - HASH]) },
    Input { name: "half of its hash", create: |dir, good| write(dir, &good[..good.len() - 16]) },
    Input {
        name: "without its last page",
        create: |dir, good| write(dir, &good[..good.len() - 4096]),
    },
    Input { name: "another hash", create: |dir, good| write(dir, altered(good, 1)) },
    Input { name: "another byte in a page", create: |dir, good| write(dir, altered(good, 5000)) },
    Input { name: "a byte more", create: |dir, good| write(dir, [good, b"x"].concat()) },
    Input { name: "a sector more", create: |dir, good| write(dir, [good, &[0; 512]].concat()) },
    Input {
        name: "a database of something else",
        create: |dir, _| write(dir, hashed(other_database(dir)?)),
    },
    Input {
        name: "an empty data directory that exists",
        create: |dir, good| {
            Ok(fs::create_dir(dir.join("d")).and_then(|()| fs::write(dir.join(FILE), good))?)
        },
    },
    Input {
        name: "a data directory with a file",
        create: |dir, good| {
            fs::create_dir(dir.join("d"))?;
            fs::write(dir.join("d/file"), "x")?;
            write(dir, good)
        },
    },
    Input {
        name: "a data directory that is a file",
        create: |dir, good| {
            fs::write(dir.join("d"), "x")?;
            write(dir, good)
        },
    },
];

/// The result of a command, as far as all versions must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ToolOutcome {
    /// It has succeeded, with this output.
    Done(String),
    /// It has failed with this exit code and message.
    Refused(i32, String),
    /// It has panicked, or was ended by a signal.
    Crashed,
}

/// The rows of `docs/differences.md`.
const ROWS: [&str; 6] = [
    "snapshot-crash",
    "snapshot-cut-off",
    "snapshot-no-bucket",
    "snapshot-reason",
    "snapshot-no-database",
    "snapshot-directory",
];

/// The row that allows ours to differ from theirs, if there is one.
fn row(ours: &ToolOutcome, theirs: &ToolOutcome) -> Option<&'static str> {
    // The refusals of 3.4.
    let exists = "data-dir \"d\" exists";
    match (theirs, ours) {
        (ToolOutcome::Crashed, ToolOutcome::Refused(1, _)) => Some(ROWS[0]),
        (ToolOutcome::Crashed, _) => None,
        (_, ToolOutcome::Refused(1, why))
            if why.ends_with("the file ends before its high-water mark") =>
        {
            Some(ROWS[1])
        }
        (_, ToolOutcome::Refused(1, why)) if why.starts_with("the database has no bucket ") => {
            Some(ROWS[2])
        }
        (ToolOutcome::Refused(1, theirs), ToolOutcome::Refused(1, ours)) => {
            if ours.strip_prefix(theirs.as_str()).is_some_and(|rest| rest.starts_with(" (")) {
                Some(ROWS[3])
            } else if ours.starts_with("invalid database (") && !theirs.contains("sha256") {
                Some(ROWS[4])
            } else {
                (theirs == exists && ours.starts_with("data-dir \"d\" not")).then_some(ROWS[5])
            }
        }
        (ToolOutcome::Refused(1, theirs), ToolOutcome::Done(_)) => {
            (theirs == exists).then_some(ROWS[5])
        }
        (ToolOutcome::Done(_) | ToolOutcome::Refused(..), _) => None,
    }
}

/// Tries all bad inputs with all programs. `good` is a snapshot without authentication. Returns a report.
///
/// # Errors
/// When ours differs without a row of `docs/differences.md`.
pub(super) fn compare(ours: &Program, theirs: &[Program], good: &[u8]) -> Result<String> {
    let own = Tool::for_files(ours)?;
    let own = own.first().context("no etcdutl")?;
    let mut rows: BTreeMap<&str, u32> = BTreeMap::new();
    let mut differences = Vec::new();
    let mut count = 0;
    for input in INPUTS {
        for words in COMMANDS {
            let expected = outcome(own, own, input, words, good)?;
            ensure!(expected != ToolOutcome::Crashed, "{}: {words:?} crashes ours", input.name);
            for program in theirs {
                for tool in Tool::for_files(program)? {
                    count += 1;
                    let found = outcome(&tool, own, input, words, good)?;
                    if found == expected {
                        continue;
                    }
                    match row(&expected, &found) {
                        Some(row) => *rows.entry(row).or_default() += 1,
                        None => differences.push(format!(
                            "{}, {}: ours {expected:?}, {} {found:?}",
                            input.name,
                            words[1..].join(" "),
                            tool.name
                        )),
                    }
                }
            }
        }
    }
    if !differences.is_empty() {
        bail!("{} differences:\n{}", differences.len(), differences.join("\n"));
    }
    let used: Vec<String> = rows.iter().map(|(row, count)| format!("{row} {count}")).collect();
    Ok(format!("{count} results for bad input are as with Go's, except: {}", used.join(", ")))
}

/// Runs a command on an input in a new directory.
fn outcome(
    tool: &Tool,
    own: &Tool,
    input: &Input,
    words: &[&str],
    good: &[u8],
) -> Result<ToolOutcome> {
    let dir = TempDir::new()?;
    (input.create)(dir.path(), good)?;
    let ended = tool.run(dir.path(), words)?;
    Ok(match &ended {
        Ended { code: Some(0), out, .. } => ToolOutcome::Done(match words[1] {
            "status" => status(out)?,
            _ => own.done(dir.path(), &["hashkv", "d/member/snap/db"])?,
        }),
        // Go's exit code after a panic and after a fault.
        Ended { code: None | Some(2), .. } => ToolOutcome::Crashed,
        Ended { code: Some(code), .. } => ToolOutcome::Refused(*code, ended.message().to_owned()),
    })
}

/// Hash, revision and size. The number of keys depends on the version.
fn status(out: &str) -> Result<String> {
    let line = out.lines().find(|line| line.starts_with('{')).context("no JSON")?;
    let json: Value = serde_json::from_str(line)?;
    Ok(["hash", "revision", "totalSize"].map(|field| json[field].to_string()).join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(why: &str) -> ToolOutcome {
        ToolOutcome::Refused(1, why.to_owned())
    }

    #[test]
    fn only_listed_differences_are_allowed() {
        let done = || ToolOutcome::Done(String::new());
        assert_eq!(row(&refused("x"), &ToolOutcome::Crashed), Some("snapshot-crash"));
        let cut = refused("s.db: page 9: the file ends before its high-water mark");
        assert_eq!(row(&cut, &done()), Some("snapshot-cut-off"));
        let other = refused("the database has no bucket \"key\": it is not etcd's");
        assert_eq!(row(&other, &refused("")), Some("snapshot-no-bucket"));
        let reason = refused("invalid database (page 0)");
        assert_eq!(row(&reason, &refused("invalid database")), Some("snapshot-reason"));
        let other = refused("open s.db: is a directory");
        assert_eq!(row(&reason, &other), Some("snapshot-no-database"));
        assert_eq!(row(&done(), &refused("data-dir \"d\" exists")), Some("snapshot-directory"));
        for (ours, theirs) in [
            (done(), refused("invalid database")),
            (done(), ToolOutcome::Crashed),
            (refused("x"), done()),
            (refused("x"), refused("y")),
            (reason, refused("expected sha256 [1], got [2]")),
        ] {
            assert_eq!(row(&ours, &theirs), None, "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn every_row_is_in_the_documentation() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/differences.md");
        let text = fs::read_to_string(path).unwrap();
        for row in ROWS {
            assert!(text.contains(&format!("| `{row}` |")), "{row}");
        }
    }
}

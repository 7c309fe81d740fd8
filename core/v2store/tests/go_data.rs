//! Trees of Go etcds of six versions: each is written again byte for byte, and has the members that
//! the server listed.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test, with functions of its own")]

use prost::Message as _;
use proto::{raftpb, snappb};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use v2store::V2Tree;

const VERSIONS: [&str; 6] = ["3.4.23", "3.4.45", "3.5.1", "3.5.30", "3.6.14", "3.7.1"];

/// The folder of the archives; none without test data.
fn go_data() -> Option<PathBuf> {
    let Some(root) = std::env::var_os("RETCD_TESTDATA") else {
        println!("skipped: RETCD_TESTDATA is not set");
        return None;
    };
    Some(PathBuf::from(root).join("go-data"))
}

/// Unpacks the .snap files and `expected/members.json` of an archive, and returns their paths.
fn unpack(archive: &Path) -> Vec<PathBuf> {
    let name = archive.file_name().expect("an archive has a name");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("the test's own folder");
    let mut tar = Command::new("tar");
    tar.args(["--sparse", "--wildcards", "--transform", "s|/|_|g", "-xvzf"]).arg(archive);
    tar.arg("-C").arg(&folder).args(["*.snap", "*expected/members.json"]);
    let output = tar.output().expect("tar runs");
    assert!(output.status.success(), "{tar:?}: {output:?}");
    let mut names = std::fs::read_dir(&folder)
        .expect("the test's own folder")
        .map(|entry| entry.expect("the test's own folder").path())
        .collect::<Vec<_>>();
    names.sort_unstable();
    names
}

/// The v2 tree in a .snap file.
fn tree(path: &Path) -> Vec<u8> {
    let outer = snappb::Snapshot::decode(&std::fs::read(path).unwrap()[..]).unwrap();
    let inner = raftpb::Snapshot::decode(outer.data.unwrap_or_default()).unwrap();
    inner.data.unwrap_or_default().to_vec()
}

fn listed(paths: &[PathBuf]) -> Value {
    let path = paths.iter().find(|path| path.extension().is_some_and(|kind| kind == "json"));
    serde_json::from_slice(&std::fs::read(path.unwrap()).unwrap()).unwrap()
}

/// The .snap files, oldest first.
fn snaps(paths: &[PathBuf]) -> impl Iterator<Item = &PathBuf> {
    let mut snaps: Vec<&PathBuf> =
        paths.iter().filter(|path| path.extension().is_some_and(|kind| kind == "snap")).collect();
    assert!(!snaps.is_empty(), "an archive that is used here has .snap files");
    snaps.sort_by_key(|path| {
        let name = path.to_string_lossy();
        name.rsplit('_').next().unwrap_or_default().to_owned()
    });
    snaps.into_iter()
}

/// Id in hex and peer URLs of each member.
type Members = Vec<(String, Value)>;

fn as_kept(listed: &Value) -> Members {
    let member = |member: &Value| {
        (format!("{:x}", member["ID"].as_u64().unwrap()), member["peerURLs"].clone())
    };
    let mut members: Members = listed["members"].as_array().unwrap().iter().map(member).collect();
    members.sort_by(|a, b| a.0.cmp(&b.0));
    members
}

fn kept(tree: &V2Tree) -> Members {
    let member = |(id, raft_attributes, _): (&str, &str, Option<&str>)| {
        let raft_attributes: Value = serde_json::from_str(raft_attributes).unwrap();
        (id.to_owned(), raft_attributes["peerURLs"].clone())
    };
    tree.members().map(member).collect()
}

#[test]
fn trees_of_go_etcds_are_written_again_byte_for_byte() {
    let Some(go_data) = go_data() else { return };
    let mut archives: Vec<String> = Vec::new();
    for version in VERSIONS {
        let scenarios: &[&str] = if version < "3.6" {
            &["plain-KILL", "cluster", "v2"]
        } else {
            &["plain-KILL", "cluster"]
        };
        archives.extend(scenarios.iter().map(|scenario| format!("{version}-{scenario}.tar.gz")));
    }
    archives.push("upgraded-3.4-to-3.7.tar.gz".into());
    for archive in &archives {
        let paths = unpack(&go_data.join(archive));
        let mut newest = None;
        for path in snaps(&paths) {
            let json = tree(path);
            let name = path.display();
            let tree = V2Tree::parse(&json).unwrap_or_else(|bad| panic!("{name}: {bad}"));
            assert_eq!(tree.to_json().as_bytes(), json, "{name}");
            newest = Some((name, kept(&tree)));
        }
        let (name, kept) = newest.unwrap();
        assert_eq!(kept, as_kept(&listed(&paths)), "{archive} {name}");
    }
}

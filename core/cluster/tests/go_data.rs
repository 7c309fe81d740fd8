//! The members in the v2 trees of .snap files of Go etcds of six versions, compared with the answer
//! of `member list`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test, with functions of its own")]

use cluster::Cluster;
use prost::Message as _;
use proto::{raftpb, snappb};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSIONS: [&str; 6] = ["3.4.23", "3.4.45", "3.5.1", "3.5.30", "3.6.14", "3.7.1"];

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

fn children(node: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let children = node["Children"].as_object().into_iter().flatten();
    children.map(|(name, node)| (name.as_str(), node))
}

#[test]
fn members_in_go_etcds_snapshots_are_those_of_member_list() {
    let Some(root) = std::env::var_os("RETCD_TESTDATA") else {
        println!("skipped: RETCD_TESTDATA is not set");
        return;
    };
    let go_data = PathBuf::from(root).join("go-data");
    for version in VERSIONS {
        for scenario in ["plain-KILL", "cluster"] {
            let archive = go_data.join(format!("{version}-{scenario}.tar.gz"));
            let paths = unpack(&archive);
            let tree: Value = serde_json::from_slice(&tree(snaps(&paths).last().unwrap())).unwrap();
            let listed = listed(&paths);
            let zero = &tree["Root"]["Children"]["0"]["Children"];
            let items: Vec<_> = children(&zero["members"])
                .map(|(id, node)| {
                    let text = |name: &str| node["Children"][name]["Value"].as_str();
                    (id, text("raftAttributes").unwrap(), text("attributes"))
                })
                .collect();
            let removed = children(&zero["removed_members"]).map(|(id, _)| id);
            let version_text = zero["version"]["Value"].as_str();
            let cluster = Cluster::load_v2(items.clone(), removed, version_text).unwrap();

            let kept: Vec<Value> = cluster.members().map(as_listed).collect();
            let mut listed = listed["members"].clone();
            if scenario == "cluster" {
                // The learner may have published its name after the snapshot.
                let last = listed.as_array_mut().unwrap().iter_mut();
                let mut last = last.filter(|member| member["name"] == "n4");
                let n4 = last.next().unwrap();
                if !kept.iter().any(|member| member["name"] == "n4") {
                    n4.as_object_mut()
                        .unwrap()
                        .retain(|key, _| key != "name" && key != "clientURLs");
                }
                assert_eq!(cluster.removed().count(), 1, "{version}");
            }
            assert_eq!(Value::Array(kept), listed, "{version} {scenario}");

            let mut written = cluster.to_v2();
            written.sort();
            let written =
                written.iter().map(|(id, raft, own)| (&id[..], &raft[..], own.as_deref()));
            let items = items
                .into_iter()
                .map(|(id, raft, own)| (id, raft, own.filter(|text| text.contains("clientURLs"))));
            assert!(written.eq(items), "{version} {scenario}: each text is Go's");
            let minor = version_text.map(|text| text.starts_with(&version[..3]));
            assert_eq!(minor, Some(true), "{version}: {version_text:?}");
        }
    }
}

/// A member as etcdctl prints it.
fn as_listed(member: &cluster::Member) -> Value {
    let mut listed = json!({ "ID": member.id.0 });
    if !member.name.is_empty() {
        listed["name"] = json!(member.name);
    }
    listed["peerURLs"] = json!(member.peer_urls);
    if !member.client_urls.is_empty() {
        listed["clientURLs"] = json!(member.client_urls);
    }
    if member.is_learner {
        listed["isLearner"] = json!(true);
    }
    listed
}

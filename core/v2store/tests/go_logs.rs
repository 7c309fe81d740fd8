//! Logs of Go etcds of six versions: every entry is decoded. Etcd's own requests are v2 requests up
//! to 3.5 and v3 requests since then; v2 requests of users are refused.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test, with functions of its own")]

use proto::etcdserverpb::{InternalRaftRequest, Request};
use proto::{Entry, EntryKind};
use std::path::{Path, PathBuf};
use std::process::Command;
use v2store::{EntryPayload, V2Change, V2Tree, classify};

/// The normal entries of the log in an archive.
fn entries(archive: &Path) -> Vec<Entry> {
    let name = archive.file_name().expect("an archive has a name");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("logs").join(name);
    std::fs::create_dir_all(&folder).expect("the test's own folder");
    let mut tar = Command::new("tar");
    tar.args(["--sparse", "--wildcards", "-xzf"]).arg(archive);
    tar.arg("-C").arg(&folder).arg("*data/member/wal/*");
    let output = tar.output().expect("tar runs");
    assert!(output.status.success(), "{tar:?}: {output:?}");
    let records = wal::dump(&vfs::RealDisk, &folder.join("data/member/wal")).unwrap();
    std::fs::remove_dir_all(&folder).expect("the test's own folder");
    let entries = records.into_iter().filter(|record| record.kind == wal::RecordKind::Entry);
    let entries = entries.map(|record| Entry::decode(record.data).unwrap());
    entries.filter(|entry| entry.kind == EntryKind::Normal && !entry.data.is_empty()).collect()
}

/// The v2 requests of a log, and how many v3 requests it has.
fn requests(entries: &[Entry], context: &str) -> (Vec<Request>, usize) {
    let (mut v2, mut v3) = (Vec::new(), 0);
    for entry in entries {
        match classify(&entry.data).unwrap_or_else(|bad| panic!("{context}: {bad}")) {
            EntryPayload::V2(request) => v2.push(*request),
            EntryPayload::Request(request) => {
                let empty = InternalRaftRequest {
                    header: request.header.clone(),
                    id: request.id,
                    ..InternalRaftRequest::default()
                };
                assert_ne!(*request, empty, "{context}: {:?} says nothing", entry.index);
                v3 += 1;
            }
        }
    }
    (v2, v3)
}

#[test]
fn every_entry_of_go_etcds_logs_is_classified() {
    let Some(root) = std::env::var_os("RETCD_TESTDATA") else {
        println!("skipped: RETCD_TESTDATA is not set");
        return;
    };
    let go_data = PathBuf::from(root).join("go-data");
    for version in ["3.4.23", "3.4.45", "3.5.1", "3.5.30", "3.6.14", "3.7.1"] {
        let archive = |scenario: &str| go_data.join(format!("{version}-{scenario}.tar.gz"));
        let (v2, v3) = requests(&entries(&archive("plain-KILL")), version);
        assert!(v3 > 100, "{version}: {v3} v3 requests");
        if version > "3.6" {
            assert_eq!(v2, [], "{version}");
            continue;
        }
        let mut tree = V2Tree::default();
        let effects: Vec<V2Change> =
            v2.iter().map(|request| tree.apply(request).unwrap()).collect();
        let is_attributes = |effect: &V2Change| matches!(effect, V2Change::MemberAttributes { .. });
        assert!(effects.iter().any(is_attributes), "{version}: {effects:?}");
        let cluster_version = V2Change::ClusterVersion(format!("{}.0", &version[..3]));
        assert!(effects.contains(&cluster_version), "{version}: {effects:?}");

        let (v2, _) = requests(&entries(&archive("v2")), version);
        let mut methods: Vec<&str> = v2.iter().map(Request::method).collect();
        methods.sort_unstable();
        methods.dedup();
        assert!(methods.contains(&"POST") && methods.contains(&"DELETE"), "{version}: {methods:?}");
        assert!(v2.iter().any(|request| tree.apply(request).is_err()), "{version}");
    }
}

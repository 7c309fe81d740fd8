//! Data directories of Go's etcd: each single-member directory is opened, restored, read and
//! hashed. The results must equal the answers that the server gave before it stopped.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a test says what it skipped")]

use auth::{AuthStore, Caller, Guarded, Permitted};
use backend::{Backend, ReadView};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use mvcc::{KeyRange, KeyValue, RangeQuery, Restored, Store};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const SCENARIOS: [&str; 5] = ["plain-TERM", "plain-KILL", "auth", "nospace", "v2"];
const VERSIONS: [&str; 6] = ["3.4.23", "3.4.45", "3.5.1", "3.5.30", "3.6.14", "3.7.1"];

/// Permits a request while authentication is off.
fn permitted<R: Guarded>(request: R) -> Permitted<R> {
    AuthStore::disabled().permit(&Caller::default(), request).unwrap()
}

fn unpack(archive: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(archive).arg("-C").arg(dir.path()).arg("--wildcards");
    tar.args(["*/snap/db", "*snapshot.db", "*/expected/*.json"]);
    // Archives may lack some of them, which tar reports. A file that is needed is missed when it is
    // opened.
    tar.stderr(std::process::Stdio::null()).status().unwrap();
    dir
}

fn json(dir: &Path, name: &str) -> Value {
    let text = std::fs::read_to_string(dir.join("expected").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn open(path: &Path) -> Backend {
    let cache = Arc::new(bolt::PageCache::new(1 << 20));
    let options = bolt::Options { new_page_size: 4096, cache, read_only: false };
    Backend::open(&vfs::RealDisk, path, options).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(value.as_str().unwrap_or_default()).unwrap()
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn check(dir: &Path) {
    let backend = open(&dir.join("data/member/snap/db"));
    let Restored { mut store, leases } = Store::restore(ReadView::of_file(backend.view())).unwrap();
    if store.is_compacting() {
        let mut batch = backend::Batch::new(backend.applied());
        while store.is_compacting() {
            store.compaction_slice(&mut batch, 1_000);
        }
    }
    let view = store.view();
    let answer = &json(dir, "hashkv.json")[0]["HashKV"];
    assert_eq!(view.revision(), number(&answer["header"]["revision"]));
    let hash = view.hash_kv(0).unwrap().run().unwrap();
    assert_eq!(u64::from(hash.hash), answer["hash"].as_u64().unwrap());
    assert_eq!(hash.compact_revision, number(&answer["compact_revision"]));

    let all = KeyRange::Span { from: b"\0"[..].into(), end: None };
    let cursor = view.range(&permitted(RangeQuery::of(all))).unwrap();
    let (items, count) = cursor.read_all().unwrap();
    let range = json(dir, "range.json");
    assert_eq!(count, range["count"].as_u64().unwrap_or_default());
    let none = Vec::new();
    let kvs = range["kvs"].as_array().unwrap_or(&none);
    assert_eq!(items.len(), kvs.len());
    let mut leased = 0;
    for (item, want) in items.iter().zip(kvs) {
        let kv = KeyValue::decode(item).unwrap();
        assert_eq!(kv.key, bytes(&want["key"]));
        assert_eq!(kv.value, bytes(&want["value"]));
        assert_eq!(kv.create_revision, number(&want["create_revision"]));
        assert_eq!(kv.mod_revision, number(&want["mod_revision"]));
        assert_eq!(kv.version, number(&want["version"]));
        assert_eq!(kv.lease, number(&want["lease"]));
        if kv.lease != 0 {
            assert_eq!((leases[leased].0.0, &leases[leased].1[..]), (kv.lease, kv.key));
            leased += 1;
        }
    }
    assert_eq!(leases.len(), leased);
}

/// A file written by `etcdctl snapshot save` has the same hash.
fn check_snapshot(dir: &Path) {
    let backend = open(&dir.join("snapshot.db"));
    let store = Store::restore(ReadView::of_file(backend.view())).unwrap().store;
    let hash = store.view().hash_kv(0).unwrap().run().unwrap();
    let answer = &json(dir, "hashkv.json")[0]["HashKV"];
    assert_eq!(u64::from(hash.hash), answer["hash"].as_u64().unwrap());
}

#[test]
fn every_directory_of_go_gives_the_answers_of_its_server() {
    let Some(shared) = std::env::var_os("RETCD_TESTDATA").map(PathBuf::from) else {
        println!("skipped: RETCD_TESTDATA is not set");
        return;
    };
    let mut names = vec!["upgraded-3.4-to-3.7".to_owned()];
    for version in VERSIONS {
        let with = SCENARIOS.iter().filter(|name| **name != "v2" || version < "3.6");
        names.extend(with.map(|scenario| format!("{version}-{scenario}")));
    }
    for name in &names {
        println!("{name}");
        let dir = unpack(&shared.join("go-data").join(format!("{name}.tar.gz")));
        check(dir.path());
        if name.contains("plain") {
            check_snapshot(dir.path());
        }
    }
}

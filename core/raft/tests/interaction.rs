//! Runs scripts with several nodes, and compares their log lines and output byte for byte. The
//! commands are those of etcd raft's rafttest.

#[path = "interaction/commands.rs"]
mod commands;
#[path = "interaction/env.rs"]
mod env;
#[path = "interaction/lines.rs"]
mod lines;
#[path = "interaction/member.rs"]
mod member;
#[path = "interaction/text.rs"]
mod text;

use env::Env;
use std::panic::catch_unwind;
use std::path::PathBuf;

#[test]
fn the_scripts_of_etcd_raft_hold() {
    let Some(directory) = script::shared("raft-testdata/testdata") else { return };
    let scripts = script::scripts(directory);
    assert_eq!(scripts.len(), 28, "all scripts are there");
    // Each script runs, so that all that fail are seen at once.
    let failed: Vec<PathBuf> =
        scripts.into_iter().filter(|path| catch_unwind(|| run(path.clone())).is_err()).collect();
    assert!(failed.is_empty(), "{} scripts fail: {failed:#?}", failed.len());
}

#[test]
fn our_own_scripts_hold() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/interaction");
    for path in script::scripts(directory) {
        run(path);
    }
}

fn run(path: PathBuf) {
    let mut env = Env::default();
    script::run(path, |case| env.run(case));
}

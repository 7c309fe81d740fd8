//! Runs scripts with several nodes, and compares their log lines and output. The commands are the
//! implemented part of etcd raft's rafttest.

#[path = "interaction/env.rs"]
mod env;
#[path = "interaction/lines.rs"]
mod lines;

use env::Env;

#[test]
fn the_single_node_script_of_etcd_raft_holds() {
    let Some(path) = script::shared("raft-testdata/testdata/single_node.txt") else { return };
    run(path);
}

#[test]
fn our_own_scripts_hold() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/interaction");
    for path in script::scripts(directory) {
        run(path);
    }
}

fn run(path: std::path::PathBuf) {
    let mut env = Env::default();
    script::run(path, |case| env.run(case));
}

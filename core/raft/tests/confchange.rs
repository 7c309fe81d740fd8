//! Runs etcd raft's scripts of configuration changes: `simple`, `enter-joint`, `leave-joint`, with
//! `vN` (voter), `lN` (learner), `rN` (remove) and `uN` (update) as input.

#![expect(clippy::unwrap_used, reason = "a test")]

use proto::raftpb::ConfChangeType;
use proto::{Index, NodeId};
use raft::SingleChange;
use raft::confchange::{Changer, restore};
use raft::tracker::{InflightLimits, Tracker, describe};
use script::Case;

const INFLIGHT: InflightLimits = InflightLimits { count: 10, bytes: usize::MAX };

#[test]
fn the_confchange_scripts_of_etcd_raft_hold() {
    let Some(directory) = script::shared("raft-testdata/confchange/testdata") else { return };
    let scripts = script::scripts(directory);
    assert_eq!(scripts.len(), 9);
    for path in scripts {
        let mut tracker = Tracker::new(INFLIGHT);
        let mut commands = 0;
        script::run(path, |case| {
            let output = run(&mut tracker, Index(commands), case);
            commands += 1;
            output
        });
    }
}

fn run(tracker: &mut Tracker, last_index: Index, case: &Case) -> String {
    case.expect_only(&["autoleave"]);
    let changes: Vec<SingleChange> = case.input.split_whitespace().map(change).collect();
    let changer = Changer { tracker, last_index };
    let changed = match case.command.as_str() {
        "simple" => changer.simple(&changes),
        "enter-joint" => changer.enter_joint(case.value("autoleave").unwrap_or_default(), &changes),
        "leave-joint" => {
            assert!(changes.is_empty(), "{}: takes no input", case.place());
            changer.leave_joint()
        }
        other => panic!("no command {other}"),
    };
    match changed {
        Err(why) => why.to_string(),
        Ok((config, progress)) => {
            // Each configuration that can be reached can be restored from its stored form.
            let (restored, members) = restore(&config.conf_state(), last_index, INFLIGHT).unwrap();
            assert_eq!(restored, config, "{}: restored otherwise", case.place());
            assert!(members.keys().eq(progress.keys()), "{}: other members", case.place());
            (tracker.config, tracker.progress) = (config, progress);
            format!("{}\n{}", tracker.config, describe(&tracker.progress))
        }
    }
}

fn change(word: &str) -> SingleChange {
    let (kind, id) = word.split_at(1);
    let kind = match kind {
        "v" => ConfChangeType::ConfChangeAddNode,
        "l" => ConfChangeType::ConfChangeAddLearnerNode,
        "r" => ConfChangeType::ConfChangeRemoveNode,
        "u" => ConfChangeType::ConfChangeUpdateNode,
        other => panic!("no change {other}"),
    };
    SingleChange { kind, node: NodeId(id.parse().unwrap()) }
}

//! Builds a configuration from its stored form by applying the changes that lead to it, so that the
//! rules of changes are checked.

use super::{Changer, Configured, Refused, SingleChange};
use crate::tracker::{InflightLimits, Tracker};
use proto::raftpb::ConfChangeType;
use proto::{ConfState, Index, NodeId};

/// The configuration of `state`, starting from an empty one.
///
/// For `voters=(1 2 3) learners=(5) outgoing=(1 2 4 6) learners_next=(4)` the outgoing voters are
/// added one by one; then one joint change removes them all and adds 1, 2, 3 and the learners 5
/// and 4, where 4 stays in `learners_next` because it still votes.
///
/// # Errors
/// If no sequence of changes leads to `state`.
pub fn restore(
    state: &ConfState,
    last_index: Index,
    inflight: InflightLimits,
) -> Result<Configured, Refused> {
    let all = |kind: ConfChangeType, ids: &[NodeId]| -> Vec<SingleChange> {
        ids.iter().map(|node| SingleChange { kind, node: *node }).collect()
    };
    let mut incoming = all(ConfChangeType::ConfChangeRemoveNode, &state.voters_outgoing);
    incoming.extend(all(ConfChangeType::ConfChangeAddNode, &state.voters));
    incoming.extend(all(ConfChangeType::ConfChangeAddLearnerNode, &state.learners));
    incoming.extend(all(ConfChangeType::ConfChangeAddLearnerNode, &state.learners_next));

    let mut tracker = Tracker::new(inflight);
    if state.voters_outgoing.is_empty() {
        one_by_one(&mut tracker, last_index, &incoming)?;
    } else {
        let outgoing = all(ConfChangeType::ConfChangeAddNode, &state.voters_outgoing);
        one_by_one(&mut tracker, last_index, &outgoing)?;
        let changer = Changer { tracker: &tracker, last_index };
        (tracker.config, tracker.progress) = changer.enter_joint(state.auto_leave, &incoming)?;
    }
    let reached = tracker.config.conf_state();
    if reached != sorted(state) {
        return Err(Refused(format!("{state:?} is not a configuration: it leads to {reached:?}")));
    }
    Ok((tracker.config, tracker.progress))
}

fn one_by_one(
    tracker: &mut Tracker,
    last_index: Index,
    changes: &[SingleChange],
) -> Result<(), Refused> {
    for change in changes {
        let changer = Changer { tracker: &*tracker, last_index };
        (tracker.config, tracker.progress) = changer.simple(std::slice::from_ref(change))?;
    }
    Ok(())
}

fn sorted(state: &ConfState) -> ConfState {
    let mut state = state.clone();
    let lists = [
        &mut state.voters,
        &mut state.learners,
        &mut state.voters_outgoing,
        &mut state.learners_next,
    ];
    for list in lists {
        list.sort_unstable();
    }
    state
}

//! Configuration changes: the simple change of one voter, and entering and leaving a joint
//! configuration. Each step works on a copy and is refused if it violates a rule. Not here: when a
//! change is proposed or applied.
//!
//! Source: etcd raft v3.7 confchange/; thesis §4.

mod change;
mod restore;

pub use change::{ConfChanges, SingleChange};
pub use restore::restore;

use crate::tracker::{Config, Inflights, Progress, ProgressMap, Tracker};
use proto::raftpb::ConfChangeType;
use proto::{Index, NodeId};
use std::fmt;

/// The reason for a refused change. The text is etcd's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

fn refused<T>(why: &str) -> Result<T, Refused> {
    Err(Refused(why.into()))
}

/// A configuration and the progress of its members.
pub type Configured = (Config, ProgressMap);

/// Computes changed configurations.
#[derive(Clone, Copy, Debug)]
pub struct Changer<'a> {
    /// The current configuration.
    pub tracker: &'a Tracker,
    /// The last index of the log, at which probing of a new member starts.
    pub last_index: Index,
}

impl Changer<'_> {
    /// From `(voters)` to `(changed voters)&&(voters)`.
    ///
    /// # Errors
    /// If it is joint already, has no voters, or would have none.
    pub fn enter_joint(
        &self,
        auto_leave: bool,
        changes: &[SingleChange],
    ) -> Result<Configured, Refused> {
        let (mut config, mut progress) = self.start()?;
        if config.voters.is_joint() {
            return refused("config is already joint");
        }
        if config.voters.incoming.0.is_empty() {
            return refused("can't make a zero-voter config joint");
        }
        config.voters.outgoing = config.voters.incoming.clone();
        self.apply(&mut config, &mut progress, changes)?;
        config.auto_leave = auto_leave;
        checked(config, progress)
    }

    /// From `(new)&&(old)` to `(new)`. Members of `learners_next` become learners.
    ///
    /// # Errors
    /// If it is not joint.
    pub fn leave_joint(&self) -> Result<Configured, Refused> {
        let (mut config, mut progress) = self.start()?;
        if !config.voters.is_joint() {
            return refused("can't leave a non-joint config");
        }
        for id in std::mem::take(&mut config.learners_next) {
            config.learners.insert(id);
            if let Some(progress) = progress.get_mut(&id) {
                progress.is_learner = true;
            }
        }
        for id in std::mem::take(&mut config.voters.outgoing.0) {
            if !config.voters.incoming.0.contains(&id) && !config.learners.contains(&id) {
                progress.remove(&id);
            }
        }
        config.auto_leave = false;
        checked(config, progress)
    }

    /// Changes at most one voter and any number of learners.
    ///
    /// # Errors
    /// If it is joint, would have no voters, or more than one voter changes.
    pub fn simple(&self, changes: &[SingleChange]) -> Result<Configured, Refused> {
        let (mut config, mut progress) = self.start()?;
        if config.voters.is_joint() {
            return refused("can't apply simple config change in joint config");
        }
        self.apply(&mut config, &mut progress, changes)?;
        let before = &self.tracker.config.voters.incoming.0;
        if before.symmetric_difference(&config.voters.incoming.0).count() > 1 {
            return refused("more than one voter changed without entering joint config");
        }
        checked(config, progress)
    }

    fn start(&self) -> Result<Configured, Refused> {
        checked(self.tracker.config.clone(), self.tracker.progress.clone())
    }

    fn apply(
        &self,
        config: &mut Config,
        progress: &mut ProgressMap,
        changes: &[SingleChange],
    ) -> Result<(), Refused> {
        for change in changes {
            if change.node == NodeId::NONE {
                // etcd passes an invalid change without a member when it applies it.
                continue;
            }
            match change.kind {
                ConfChangeType::ConfChangeAddNode => {
                    self.make_voter(config, progress, change.node);
                }
                ConfChangeType::ConfChangeAddLearnerNode => {
                    self.make_learner(config, progress, change.node);
                }
                ConfChangeType::ConfChangeRemoveNode => remove(config, progress, change.node),
                ConfChangeType::ConfChangeUpdateNode => {}
            }
        }
        if config.voters.incoming.0.is_empty() {
            return refused("removed all voters");
        }
        Ok(())
    }

    fn make_voter(&self, config: &mut Config, progress: &mut ProgressMap, id: NodeId) {
        progress.entry(id).or_insert_with(|| self.new_progress()).is_learner = false;
        config.learners.remove(&id);
        config.learners_next.remove(&id);
        config.voters.incoming.0.insert(id);
    }

    fn make_learner(&self, config: &mut Config, progress: &mut ProgressMap, id: NodeId) {
        let Some(mut known) = progress.get(&id).cloned() else {
            config.learners.insert(id);
            progress.insert(id, Progress { is_learner: true, ..self.new_progress() });
            return;
        };
        if known.is_learner {
            return;
        }
        remove(config, progress, id);
        if config.voters.outgoing.0.contains(&id) {
            config.learners_next.insert(id);
        } else {
            known.is_learner = true;
            config.learners.insert(id);
        }
        // The leader's knowledge of its log stays valid.
        progress.insert(id, known);
    }

    fn new_progress(&self) -> Progress {
        Progress {
            next: self.last_index.max(Index(1)),
            inflights: Inflights::new(self.tracker.inflight),
            // A new member had no time to respond yet, and counts as active.
            recent_active: true,
            ..Progress::default()
        }
    }
}

fn remove(config: &mut Config, progress: &mut ProgressMap, id: NodeId) {
    if !progress.contains_key(&id) {
        return;
    }
    config.voters.incoming.0.remove(&id);
    config.learners.remove(&id);
    config.learners_next.remove(&id);
    if !config.voters.outgoing.0.contains(&id) {
        progress.remove(&id);
    }
}

/// Checks the rules of [`Config`], and that each member has a progress.
fn checked(config: Config, progress: ProgressMap) -> Result<Configured, Refused> {
    let Config { voters, learners, learners_next, auto_leave } = &config;
    let ids = voters.ids();
    for id in ids.iter().chain(learners).chain(learners_next) {
        if !progress.contains_key(id) {
            return refused(&format!("no progress for {id}"));
        }
    }
    let is_learner = |id: &NodeId| progress.get(id).is_some_and(|progress| progress.is_learner);
    for id in learners_next {
        if !voters.outgoing.0.contains(id) {
            return refused(&format!("{id} is in LearnersNext, but not Voters[1]"));
        }
        if is_learner(id) {
            return refused(&format!("{id} is in LearnersNext, but is already marked as learner"));
        }
    }
    for id in learners {
        if voters.outgoing.0.contains(id) {
            return refused(&format!("{id} is in Learners and Voters[1]"));
        }
        if voters.incoming.0.contains(id) {
            return refused(&format!("{id} is in Learners and Voters[0]"));
        }
        if !is_learner(id) {
            return refused(&format!("{id} is in Learners, but is not marked as learner"));
        }
    }
    if !voters.is_joint() && *auto_leave {
        return refused("AutoLeave must be false when not joint");
    }
    Ok((config, progress))
}

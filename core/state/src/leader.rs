//! The duties of a leader: the clock of the leases, and the requests that it proposes by itself.
//! Both begin when the first entry of its term is applied: only then does its state contain
//! everything that earlier leaders have committed. Every member, leader or not, also publishes its
//! attributes.
//!
//! Source: etcd v3.7 server/etcdserver/server.go `applyEntryNormal` (promotion on the empty entry
//! of a new leader), `monitorVersions`, `publishV3`.

use crate::effect::{Effect, Proposer};
use crate::input::Leader;
use crate::leadership::Leadership;
use crate::machine::State;
use cluster::{CLUSTER_VERSION_MIN, ENTRIES_OF_3_5, Member, SERVER_MINOR, Version};
use proto::etcdserverpb::InternalRaftRequest;
use proto::membershippb::{
    ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest,
};
use proto::{NodeId, Term};
use std::collections::BTreeMap;

/// How long the versions of all members are waited for, after an election: by a leader before it gives
/// a cluster that has none the lowest version, and by each member before it publishes its attributes
/// in the form that all but members of 3.4 read.
const VERSIONS_WAIT_MS: u64 = 5_000;

/// The time after which the attributes are proposed again: a proposal that was forwarded to another
/// member may have been lost.
const ATTRIBUTES_RETRY_MS: u64 = 5_000;

impl State {
    /// Records the leader. When this member ceases to lead, answers everything that waits for a
    /// leader.
    pub(crate) fn lead(
        &mut self,
        now_ms: u64,
        (term, leader): (Term, Leader),
        effects: &mut Vec<Effect>,
    ) {
        if (term, leader) == (self.leadership.term, self.leadership.leader) {
            return;
        }
        self.lessor.demote();
        let replies = self.waiters.leadership_ended();
        effects.extend(replies.map(|(id, reply)| Effect::Reply(id, reply)));
        let since_ms = now_ms;
        self.leadership = Leadership { term, leader, since_ms, ..Leadership::default() };
        self.establish_if_due(now_ms);
        self.flush_replies(effects);
        self.propose_clears(now_ms, effects);
    }

    /// Promotes the lessor and answers waiting questions, if an entry of the term is applied. Since
    /// terms in the log ascend, it is enough to look at the last applied entry.
    pub(crate) fn establish_if_due(&mut self, now_ms: u64) {
        if !self.leadership.is_pending() || self.leadership.term > self.applied.term {
            return;
        }
        self.leadership.is_established = true;
        self.leadership.established_ms = now_ms;
        self.lessor.promote(now_ms, self.settings.lease_extend_ms);
        for (id, question) in self.waiters.promoted() {
            if let Some(reply) = self.reply(now_ms, id, question) {
                self.output.replies.push((id, reply));
            }
        }
    }

    /// Makes the proposals that are due.
    pub(crate) fn tick(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if self.leadership.is_established {
            self.expire(now_ms, effects);
            self.propose_checkpoints(now_ms, effects);
            self.propose_clears(now_ms, effects);
            self.propose_cluster_version(now_ms, effects);
            self.end_downgrade(now_ms, effects);
        }
        let can_propose = match self.leadership.leader {
            Leader::Unknown => false,
            Leader::Me => self.leadership.is_established,
            Leader::Other => true,
        };
        if can_propose {
            self.propose_attributes(now_ms, effects);
        }
    }

    /// Records the versions of other members. They may permit another cluster version.
    pub(crate) fn learn_versions(&mut self, versions: BTreeMap<NodeId, Version>) {
        if versions != self.membership.member_versions {
            self.membership.member_versions = versions;
            self.leadership.has_proposed_version = false;
        }
    }

    /// The highest cluster version that all members can serve; `None` as long as the version of one
    /// of them is not known.
    fn common_version(&self) -> Option<Version> {
        let others = self.members().filter(|member| member.id != self.settings.member);
        others
            .map(|member| self.membership.member_versions.get(&member.id).copied())
            .try_fold(SERVER_MINOR, |lowest, version| Some(lowest.min(version?.of_cluster())))
    }

    /// Proposes the version of a cluster that has none, and raises an older one if the settings say
    /// so.
    fn propose_cluster_version(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if self.leadership.has_proposed_version {
            return;
        }
        let common = self.common_version();
        let target = self.membership.cluster.downgrade_target();
        let wanted = match (self.membership.cluster.version(), common) {
            // The version is lowered as soon as all members are known to be able to serve it.
            (Some(version), Some(common)) if target.is_some_and(|target| target < version) => {
                target.unwrap_or(common).min(common)
            }
            (Some(_), _) if target.is_some() => return,
            (None, Some(common)) => common,
            (None, None) => {
                let waited_ms = now_ms.saturating_sub(self.leadership.established_ms);
                if waited_ms < VERSIONS_WAIT_MS {
                    return;
                }
                CLUSTER_VERSION_MIN
            }
            (Some(version), Some(common))
                if version < common
                    && (self.settings.raise_cluster_version || version == CLUSTER_VERSION_MIN) =>
            {
                common
            }
            (Some(_), _) => return,
        };
        self.leadership.has_proposed_version = true;
        let is_read = match common {
            Some(common) => common >= ENTRIES_OF_3_5,
            None => self.reads_entries_of_3_5().unwrap_or(true),
        };
        let mut request = InternalRaftRequest::default();
        if is_read {
            let set = ClusterVersionSetRequest { ver: wanted.to_string() };
            request.cluster_version_set = Some(set);
        } else {
            request.v2 = Some(v2_put("/0/version".to_owned(), wanted.to_string()));
        }
        effects.push(Effect::Propose(Box::new(request), Proposer::Leader));
    }

    /// Ends a downgrade once all members, including this one, have the target version.
    fn end_downgrade(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let every_ms = self.settings.downgrade_check_ms;
        let is_due = every_ms > 0 && now_ms >= self.leadership.downgrade_checked_ms + every_ms;
        let Some(target) = self.membership.cluster.downgrade_target().filter(|_| is_due) else {
            return;
        };
        // Members of 3.4 do not know downgrades, and would crash at an entry that ends one.
        if target < ENTRIES_OF_3_5 {
            return;
        }
        self.leadership.downgrade_checked_ms = now_ms;
        let cluster = &self.membership.cluster;
        let own = cluster.announced_version(self.settings.raise_cluster_version);
        let version = |member: &Member| {
            if member.id == self.settings.member {
                Some(own)
            } else {
                self.membership.member_versions.get(&member.id).copied()
            }
        };
        if !self.members().all(|it| version(it).is_some_and(|it| it.of_cluster() == target)) {
            return;
        }
        tracing::info!("cluster-version" = %target, "the cluster has been downgraded");
        let set = DowngradeInfoSetRequest { enabled: false, ver: String::new() };
        let request = InternalRaftRequest { downgrade_info_set: Some(set), ..Default::default() };
        effects.push(Effect::Propose(Box::new(request), Proposer::Leader));
    }

    /// Whether all members read the entries that came with 3.5; `None` if that is not known.
    fn reads_entries_of_3_5(&self) -> Option<bool> {
        // A cluster has the lowest version until the versions of all its members are known.
        let version = self.membership.cluster.version().filter(|it| *it > CLUSTER_VERSION_MIN);
        if let Some(version) = version {
            return Some(version >= ENTRIES_OF_3_5);
        }
        let others = self.members().filter(|member| member.id != self.settings.member);
        let mut all_known = true;
        for member in others {
            match self.membership.member_versions.get(&member.id) {
                Some(version) if *version < ENTRIES_OF_3_5 => return Some(false),
                Some(_) => {}
                None => all_known = false,
            }
        }
        all_known.then_some(true)
    }

    /// Publishes this member's name and client URLs in the form that all members understand.
    fn propose_attributes(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let id = self.settings.member;
        let stored = self.membership.cluster.member(id).map(Member::attributes);
        let wanted = &self.settings.attributes;
        let is_current = stored.is_none_or(|stored| stored == *wanted);
        let proposed_ms = self.leadership.attributes_proposed_ms;
        let is_under_way = proposed_ms.is_some_and(|at| now_ms < at + ATTRIBUTES_RETRY_MS);
        if is_current || is_under_way {
            return;
        }
        let is_read = match self.reads_entries_of_3_5() {
            Some(is_read) => is_read,
            None if now_ms < self.leadership.since_ms + VERSIONS_WAIT_MS => return,
            None => true,
        };
        self.leadership.attributes_proposed_ms = Some(now_ms);
        let mut request = InternalRaftRequest::default();
        if is_read {
            request.cluster_member_attr_set = Some(ClusterMemberAttrSetRequest {
                member_id: id.0,
                member_attributes: Some(proto::membershippb::Attributes {
                    name: wanted.name.clone(),
                    client_urls: wanted.client_urls.clone(),
                }),
            });
        } else {
            let path = format!("/0/members/{id:x}/attributes");
            request.v2 = Some(v2_put(path, wanted.to_json()));
        }
        effects.push(Effect::Propose(Box::new(request), Proposer::Member));
    }
}

/// The request by which members of 3.4 set a value.
fn v2_put(path: String, value: String) -> proto::etcdserverpb::Request {
    proto::etcdserverpb::Request {
        method: Some("PUT".into()),
        path: Some(path),
        val: Some(value),
        ..Default::default()
    }
}

//! The duties of a leader: the clock of the leases, and the requests it proposes by itself. Both
//! begin when the first entry of its term is applied: only then does its state contain everything
//! that earlier leaders have committed.
//!
//! Source: etcd v3.7 server/etcdserver/server.go `applyEntryNormal` (promotion on the empty entry
//! of a new leader), `monitorVersions`, `publishV3`.

use crate::effect::Effect;
use crate::leadership::Leadership;
use crate::machine::State;
use cluster::{Member, SERVER_MINOR, Version};
use proto::Term;
use proto::etcdserverpb::InternalRaftRequest;
use proto::membershippb::{ClusterMemberAttrSetRequest, ClusterVersionSetRequest};

impl State {
    /// Begins or ends the leadership of this member. At the end, everything that waits for a leader
    /// is answered.
    pub(crate) fn leads(&mut self, now_ms: u64, term: Option<Term>, effects: &mut Vec<Effect>) {
        if term == self.leadership.term {
            return;
        }
        self.lessor.demote();
        let replies = self.waiters.leadership_ended();
        effects.extend(replies.map(|(id, reply)| Effect::Reply(id, reply)));
        self.leadership = Leadership { term, ..Leadership::default() };
        self.establish_if_due(now_ms);
        self.flush_replies(effects);
        self.propose_clears(now_ms, effects);
    }

    /// Promotes the lessor and answers waiting questions if an entry of the term is applied. Terms
    /// in the log ascend, so the last applied entry decides it.
    pub(crate) fn establish_if_due(&mut self, now_ms: u64) {
        let is_due = self.leadership.term.is_some_and(|term| term <= self.applied.term);
        if self.leadership.is_established || !is_due {
            return;
        }
        self.leadership.is_established = true;
        self.lessor.promote(now_ms, self.settings.lease_extend_ms);
        for (id, question) in self.waiters.promoted() {
            if let Some(reply) = self.reply(now_ms, id, question) {
                self.output.replies.push((id, reply));
            }
        }
    }

    /// Proposes what is due, if this member leads.
    pub(crate) fn tick(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if !self.leadership.is_established {
            return;
        }
        self.expire(now_ms, effects);
        self.propose_checkpoints(now_ms, effects);
        self.propose_clears(now_ms, effects);
        self.propose_cluster_version(effects);
        self.propose_attributes(effects);
    }

    /// Proposes the version of a cluster that has none, and raises an older one if the settings say
    /// so. In a cluster of one there is no other member whose version could be lower.
    fn propose_cluster_version(&mut self, effects: &mut Vec<Effect>) {
        let wanted: Version = SERVER_MINOR;
        let is_wanted = match self.membership.cluster.version() {
            None => true,
            Some(version) => self.settings.raise_cluster_version && version < wanted,
        };
        if !is_wanted || self.leadership.has_proposed_version {
            return;
        }
        self.leadership.has_proposed_version = true;
        let set = ClusterVersionSetRequest { ver: wanted.to_string() };
        let request = InternalRaftRequest { cluster_version_set: Some(set), ..Default::default() };
        effects.push(Effect::Propose(Box::new(request)));
    }

    /// Publishes this member's name and client URLs in the form that all members of a cluster at
    /// this version understand.
    fn propose_attributes(&mut self, effects: &mut Vec<Effect>) {
        let id = self.settings.member;
        let stored = self.membership.cluster.member(id).map(Member::attributes);
        let wanted = &self.settings.attributes;
        let is_current = stored.is_none_or(|stored| stored == *wanted);
        if self.leadership.has_proposed_attributes || is_current {
            return;
        }
        self.leadership.has_proposed_attributes = true;
        let mut request = InternalRaftRequest::default();
        let speaks_v3_only = Version { major: 3, minor: 5, patch: 0 };
        if self.membership.cluster.version().is_none_or(|version| version >= speaks_v3_only) {
            request.cluster_member_attr_set = Some(ClusterMemberAttrSetRequest {
                member_id: id.0,
                member_attributes: Some(proto::membershippb::Attributes {
                    name: wanted.name.clone(),
                    client_urls: wanted.client_urls.clone(),
                }),
            });
        } else {
            request.v2 = Some(proto::etcdserverpb::Request {
                method: Some("PUT".into()),
                path: Some(format!("/0/members/{id:x}/attributes")),
                val: Some(wanted.to_json()),
                ..Default::default()
            });
        }
        effects.push(Effect::Propose(Box::new(request)));
    }
}

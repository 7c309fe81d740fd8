//! The end of a run: all faults end, and then the cluster must serve, expire leases and apply all
//! entries within time limits. At last the members are compared with each other and with the model,
//! and the histories are checked.

use super::clients::Purpose;
use super::clock::{MS, SECOND};
use super::gateway::Request;
use super::host::{Host, Seat};
use super::oracle::{self, KnownEvent};
use super::roster::Listed;
use super::world::World;
use crate::kv::calls::{KeyChange, KvCall, Operation};
use crate::kv::{revisions, witness};
use cluster::Member;
use proto::etcdserverpb::{InternalRaftRequest, PutRequest};
use std::collections::BTreeMap;

/// How late a lease may expire once all faults have ended and there is a leader, in addition to the
/// time by which each new leader extends it: the leader checks leases each tick, and repeats a lost
/// proposal after 3 s.
const LATE_MAX: u64 = 8 * SECOND;
/// The longest TTL of a client's lease.
const TTL_MAX: u64 = 10 * SECOND;
/// Within this time each client must be served by each member once there is a leader.
const SERVED_WITHIN: u64 = 20 * SECOND;
/// Within this time the operator must finish its tasks.
const OPERATED_WITHIN: u64 = 90 * SECOND;
/// Within this time all members must have applied everything once clients rest.
const EQUAL_WITHIN: u64 = 60 * SECOND;

impl World {
    /// Ends the run.
    ///
    /// # Errors
    /// When a check fails.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        self.heal();
        self.await_leader()?;
        self.await_operator()?;
        self.serve_everyone()?;
        self.await_expiry()?;
        self.await_equality()?;
        self.compare_members()?;
        self.await_watches()?;
        self.check_histories()
    }

    /// Waits until a condition holds.
    fn await_that(
        &mut self,
        within: u64,
        what: &str,
        is_so: impl Fn(&World) -> bool,
    ) -> Result<(), String> {
        let end = self.now() + within;
        while !is_so(self) {
            if self.now() >= end {
                return Err(format!("not within {} ms after all faults: {what}", within / MS));
            }
            let next = self.now() + 10 * MS;
            self.run_until(next)?;
        }
        Ok(())
    }

    fn await_leader(&mut self) -> Result<(), String> {
        self.await_that(5 * SECOND, "all members start", |world| {
            world.hosts.iter().filter(|host| host.is_member()).all(Host::is_running)
        })?;
        // Split votes are likely if nearly all votes are needed: if the disk of a member is lost, or
        // the number of voters is even. Without pre-votes, a member with a short log cannot win, but
        // each of its elections restarts the timeouts of the others.
        let is_short = self.hosts.iter().any(|host| matches!(host.life.seat, Seat::Broken(_)));
        let is_even = self.voters().len().is_multiple_of(2);
        let has_pre_vote = self.setup.options.iter().all(|options| options.pre_vote);
        let timeouts = if is_short || is_even || !has_pre_vote { 10 } else { 3 };
        let within = timeouts * self.setup.election_timeout();
        let found = self.await_that(within, "a leader in a few election timeouts", |world| {
            world.leader().is_some()
        });
        found.map_err(|why| format!("{why}; {}", self.roles()))
    }

    /// The role, term and last entry of each running member.
    fn roles(&self) -> String {
        let role = |at: usize| {
            let node = self.node(at)?;
            let (role, last) = (node.role(), node.last());
            Some(format!(
                "m{at}: {role:?}, term {}, last {}/{}",
                node.term(),
                last.term,
                last.index
            ))
        };
        (0..self.hosts.len()).filter_map(role).collect::<Vec<_>>().join("; ")
    }

    /// Waits until the operator has finished its tasks.
    fn await_operator(&mut self) -> Result<(), String> {
        self.await_that(OPERATED_WITHIN, "the changes of the members end", |world| {
            world.nemesis.operator.is_idle() && world.is_as_listed()
        })?;
        self.await_leader()
    }

    /// Lets each client write and read through each member.
    fn serve_everyone(&mut self) -> Result<(), String> {
        self.people.resting = true;
        self.await_that(10 * SECOND, "the clients' last calls end", |world| {
            world.people.clients.iter().all(|client| client.under_way.is_none())
        })?;
        for at in self.voters() {
            for is_read in [false, true] {
                let end = self.now() + SERVED_WITHIN;
                let mut waiting: Vec<usize> = (0..self.people.clients.len()).collect();
                // A call that an old leader accepted is lost, and made again.
                while !waiting.is_empty() && self.now() < end {
                    waiting = self.these_call(&waiting, at, is_read)?;
                }
                if !waiting.is_empty() {
                    return Err(format!(
                        "after all faults the clients {waiting:?} are not served by member {at}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Lets these clients call a member. Returns those that got no answer.
    fn these_call(
        &mut self,
        clients: &[usize],
        at: usize,
        is_read: bool,
    ) -> Result<Vec<usize>, String> {
        let mut calls = Vec::new();
        for client in clients.iter().copied() {
            calls.push((client, self.checks.history.calls.len()));
            self.one_calls(client, at, is_read);
        }
        self.await_that(SERVED_WITHIN, "the clients' calls end", |world| {
            world.people.clients.iter().all(|client| client.under_way.is_none())
        })?;
        let is_unanswered =
            |(_, place): &(usize, usize)| self.checks.history.calls[*place].ended.is_none();
        Ok(calls.into_iter().filter(is_unanswered).map(|(client, _)| client).collect())
    }

    fn one_calls(&mut self, client: usize, at: usize, is_read: bool) {
        self.people.calls += 1;
        let number = (self.people.calls << 8) | client as u64;
        let key = bytes::Bytes::from(format!("k/{client:02}"));
        let (operation, request) = if is_read {
            let operations = vec![Operation::Get(key.clone())];
            (Operation::Get(key), Request::Read { operations, linearizable: true })
        } else {
            let value = bytes::Bytes::from(format!("{number:x}"));
            let put = PutRequest { key: key.clone(), value: value.clone(), ..Default::default() };
            let request = InternalRaftRequest { put: Some(put), ..Default::default() };
            (Operation::Put(key, value), Request::Propose(Box::new(request)))
        };
        self.people.clients[client].at = at;
        self.call(client, number, Purpose::Kv(KvCall::one(operation)), request);
    }

    /// Waits until leases that are not renewed have expired.
    fn await_expiry(&mut self) -> Result<(), String> {
        let extended = self.setup.election_timeout();
        let within = TTL_MAX + extended + LATE_MAX;
        let what = "leases that nobody renews expire";
        self.await_that(within, what, |world| world.checks.oracle.leases().is_empty())
    }

    fn await_equality(&mut self) -> Result<(), String> {
        self.await_that(EQUAL_WITHIN, "all members have applied everything", |world| {
            let last = world.checks.oracle.last();
            world.hosts.iter().filter(|host| host.is_member()).all(|host| {
                host.process.as_ref().is_some_and(|process| {
                    let applier = &process.machines.applier;
                    applier.moment().published.applied.index == last && !applier.has_housekeeping()
                })
            })
        })
    }

    fn compare_members(&self) -> Result<(), String> {
        let oracle = &self.checks.oracle;
        let expected = oracle.hash_kv();
        let listed = |member: &Member| {
            let Member { id, is_learner, peer_urls, .. } = member;
            (*id, Listed { is_learner: *is_learner, peer_urls: peer_urls.clone() })
        };
        let mut members = None;
        for at in self.members() {
            let host = &self.hosts[at];
            let Some(process) = &host.process else { continue };
            let published = &process.machines.applier.moment().published;
            let view = &published.view;
            let revisions = (view.revision(), view.compact_revision());
            if revisions != (oracle.revision(), oracle.compacted()) {
                return Err(format!(
                    "member {at} is at the revisions {revisions:?}, not {} and {}",
                    oracle.revision(),
                    oracle.compacted()
                ));
            }
            let hash = view.hash_kv(0).map_err(|error| format!("HashKV: {error:?}"));
            let mut hash = hash?;
            let hash = loop {
                if let Some(hash) = hash.step().map_err(|error| format!("HashKV: {error}"))? {
                    break hash.hash;
                }
            };
            if hash != expected {
                return Err(format!("HashKV of member {at} is {hash:08x}, not {expected:08x}"));
            }
            let cluster = &published.cluster;
            let found: Vec<_> = cluster.members().cloned().collect();
            let raft = process.machines.consensus.member().conf_state();
            if raft != cluster.conf_state() {
                return Err(format!(
                    "member {at} has the configuration {raft:?}, and its members are {found:?}"
                ));
            }
            if !found.iter().map(listed).eq(oracle.roster.members().clone()) {
                return Err(format!(
                    "member {at} knows the members {found:?}, and the log says {:?}",
                    oracle.roster
                ));
            }
            if *members.get_or_insert_with(|| found.clone()) != found {
                return Err(format!("member {at} knows other members than the first: {found:?}"));
            }
        }
        Ok(())
    }

    fn await_watches(&mut self) -> Result<(), String> {
        self.await_that(60 * SECOND, "every watch gets all events", |world| {
            world.people.watches.iter().all(|watch| watch.log.has_all(&world.checks.oracle))
        })
    }

    /// Checks the histories of the clients against the order that the log gives.
    fn check_histories(&mut self) -> Result<(), String> {
        let oracle = &self.checks.oracle;
        let mut changes = witness::Changes::new();
        let mut others = BTreeMap::new();
        for KnownEvent { revision, key, put } in oracle.events_from(0) {
            if key.starts_with(b"lease/") {
                others.insert(*revision, oracle.made_at(*revision));
            } else {
                let change = KeyChange { key: key.clone(), now: put.as_ref().map(oracle::seen) };
                changes.entry(*revision).or_default().push(change);
            }
        }
        let history = &mut self.checks.history;
        history.others = others.into_iter().collect();
        revisions::check(history)?;
        witness::check(history, &changes)
    }
}

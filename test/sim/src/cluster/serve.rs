//! The calls, answers and watches of clients.

use super::clients::{Purpose, UnderWay};
use super::clock::{MS, SECOND};
use super::event::Event;
use super::gateway::{Answering, Request, Response, parts_of};
use super::watch_check::Goes;
use super::world::World;
use crate::kv::calls::{Answered, KvAnswer, KvCall, Operation, Part};
use crate::linearizable::Timed;
use executor::RequestFailure;
use proto::answer::Answer;
use proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use state::{Reject, Reply};

/// The low bits of a call's number that hold the number of its client.
pub(crate) const CLIENT_BITS: u32 = 8;
/// The number of the operator among the clients.
pub(crate) const OPERATOR: usize = (1 << CLIENT_BITS) - 1;

impl World {
    fn client_of(&self, call: u64) -> usize {
        usize::try_from(call & ((1 << CLIENT_BITS) - 1)).unwrap_or(usize::MAX)
    }

    /// The call in flight with this number; `None` if its client has given it up.
    fn under_way(&mut self, call: u64) -> Option<UnderWay> {
        let client = self.client_of(call);
        let client = self.people.clients.get_mut(client)?;
        client.under_way.take_if(|under_way| under_way.number == call)
    }

    /// Lets a client make its next call.
    pub(crate) fn next_call(&mut self, client: usize) {
        if self.people.resting || self.people.clients[client].under_way.is_some() {
            return;
        }
        self.people.calls += 1;
        let number = (self.people.calls << CLIENT_BITS) | client as u64;
        let (members, revision) = (self.members(), self.checks.acknowledged);
        let (purpose, request) = self.people.clients[client].next(number, revision, &members);
        self.call(client, number, purpose, request);
    }

    /// Lets a client call the member that it prefers.
    pub(crate) fn call(&mut self, client: usize, number: u64, purpose: Purpose, request: Request) {
        let now = self.now();
        let at = self.people.clients[client].at;
        let mut place = None;
        if let Purpose::Kv(call) = &purpose {
            place = Some(self.checks.history.calls.len());
            let call = Answered {
                client: u32::try_from(client).unwrap_or(u32::MAX),
                call: call.clone(),
                answer: None,
            };
            self.checks.history.calls.push(Timed { begun: now, ended: None, call });
        }
        if let Purpose::Revoke(id) = purpose {
            self.checks.leases.give_up(id);
        }
        let floor = self.checks.acknowledged;
        let jumped = self.checks.leases.jumped;
        let under_way = UnderWay { number, begun: now, at, purpose, floor, jumped, place };
        self.people.clients[client].under_way = Some(under_way);
        let patience = self.people.clients[client].patience();
        self.agenda.after(patience, Event::GiveUp { call: number });
        let latency = self.network.client_latency();
        if self.hosts[at].client_cuts > 0 {
            self.nemesis.kept_away += 1;
            return;
        }
        let process = self.hosts[at].number;
        self.agenda.after(latency, Event::Request { at, process, call: number, request });
    }

    /// Called when a client stops waiting for a call.
    pub(crate) fn give_up(&mut self, call: u64) {
        if self.client_of(call) == OPERATOR {
            self.operator_is_answered(call);
            return;
        }
        let Some(_) = self.under_way(call) else { return };
        self.counts.unknown += 1;
        let client = self.client_of(call);
        let (members, leader) = (self.members(), self.leader());
        self.people.clients[client].move_on(&members, leader);
        self.people.clients[client].lose_lease();
        self.agenda.after(10 * MS, Event::Next { client });
    }

    pub(crate) fn request_arrives(
        &mut self,
        at: usize,
        call: u64,
        mut request: Request,
    ) -> Result<(), String> {
        if let Request::Change(_, reach) = &mut request {
            *reach = self.reach(at);
        }
        let local = self.hosts[at].clock.now(self.now());
        let Some(process) = &mut self.hosts[at].process else { return Ok(()) };
        let asked = process.ask(local, self.setup.tick, call, request);
        if let Err(why) = asked {
            return self.process_fails(at, &why);
        }
        self.after_work(at)
    }

    pub(crate) fn answer_leaves(&mut self, at: usize, answering: Answering) {
        if self.hosts[at].client_cuts > 0 {
            self.nemesis.kept_away += 1;
            return;
        }
        let Answering { call, response } = answering;
        let latency = self.network.client_latency();
        self.agenda.after(latency, Event::Response { call, response });
    }

    pub(crate) fn response_arrives(&mut self, call: u64, response: Response) -> Result<(), String> {
        let client = self.client_of(call);
        if client == OPERATOR {
            self.operator_is_answered(call);
            return Ok(());
        }
        let Some(under_way) = self.under_way(call) else { return Ok(()) };
        match response {
            Response::Refused | Response::Applied(Err(RequestFailure::TooManyRequests)) => {
                self.refused(client, &under_way);
            }
            Response::Keys(revision, parts) => {
                self.keys_arrive(client, &under_way, revision, parts)?
            }
            Response::Lease(reply) => self.lease_reply(client, &under_way, &reply)?,
            Response::Applied(Ok(answer)) => self.applied(client, &under_way, &answer)?,
            Response::Applied(Err(RequestFailure::Rejected(reject))) => {
                self.rejected(client, &under_way, &reject)?;
            }
        }
        let pause = self.people.clients[client].pause();
        self.agenda.after(pause, Event::Next { client });
        Ok(())
    }

    /// Handles a refused call, which had no effect.
    fn refused(&mut self, client: usize, under_way: &UnderWay) {
        self.counts.refused += 1;
        if let Some(place) = under_way.place {
            self.checks.history.calls[place].call.call = KvCall::default();
        }
        let (members, leader) = (self.members(), self.leader());
        self.people.clients[client].move_on(&members, leader);
    }

    /// Handles the revision of an answered call.
    ///
    /// # Errors
    /// When the revision is older than one that was acknowledged before the call began.
    fn acknowledge(
        &mut self,
        under_way: &UnderWay,
        revision: i64,
        changes: bool,
    ) -> Result<(), String> {
        self.counts.operations += 1;
        let least = under_way.floor + i64::from(changes);
        if revision < least {
            return Err(format!(
                "a call that began when revision {} was acknowledged is answered at revision \
                 {revision}: {under_way:?}",
                under_way.floor
            ));
        }
        self.checks.acknowledged = self.checks.acknowledged.max(revision);
        Ok(())
    }

    fn keys_arrive(
        &mut self,
        client: usize,
        under_way: &UnderWay,
        revision: i64,
        parts: Vec<Part>,
    ) -> Result<(), String> {
        let operations = match &under_way.purpose {
            Purpose::Kv(call) => &call.then,
            Purpose::Serializable(operations) => {
                self.counts.operations += 1;
                return self.checks.oracle.check_read(operations, revision, &parts);
            }
            Purpose::Grant(_)
            | Purpose::LeasePut
            | Purpose::KeepAlive(_)
            | Purpose::Revoke(_)
            | Purpose::Compact => return Err(format!("keys for {under_way:?}")),
        };
        self.checks.oracle.check_read(operations, revision, &parts)?;
        self.acknowledge(under_way, revision, false)?;
        let operations = operations.clone();
        let answer = KvAnswer { revision, succeeded: true, parts };
        self.history_ends(client, under_way, &operations, answer);
        Ok(())
    }

    fn history_ends(
        &mut self,
        client: usize,
        under_way: &UnderWay,
        operations: &[Operation],
        answer: KvAnswer,
    ) {
        for (operation, part) in operations.iter().zip(&answer.parts) {
            match (operation, part) {
                (Operation::Put(key, value), Part::Put) => {
                    self.people.clients[client].saw(key, value);
                }
                (_, Part::Keys(keys)) => {
                    for (key, seen) in keys {
                        self.people.clients[client].saw(key, &seen.value);
                    }
                }
                (_, Part::Put | Part::Deleted(_)) => {}
            }
        }
        let now = self.now();
        if let Some(place) = under_way.place {
            let timed = &mut self.checks.history.calls[place];
            timed.ended = Some(now);
            timed.call.answer = Some(answer);
        }
    }

    fn applied(
        &mut self,
        client: usize,
        under_way: &UnderWay,
        answer: &Answer,
    ) -> Result<(), String> {
        match &under_way.purpose {
            Purpose::Kv(call) => {
                let (revision, succeeded, parts) = parts_of(answer)?;
                let changes =
                    parts.iter().any(|part| matches!(part, Part::Put | Part::Deleted(1..)));
                self.acknowledge(under_way, revision, changes)?;
                let operations = if succeeded { &call.then } else { &call.otherwise }.clone();
                let answer = KvAnswer { revision, succeeded, parts };
                self.history_ends(client, under_way, &operations, answer);
                Ok(())
            }
            Purpose::LeasePut => self.acknowledge(under_way, parts_of(answer)?.0, true),
            Purpose::Grant(id) => {
                let Answer::LeaseGrant(grant) = answer else {
                    return Err(format!("a grant is answered {answer:?}"));
                };
                let asked = (under_way.begun, under_way.jumped);
                self.checks.leases.granted(*id, grant.ttl_s, asked);
                self.people.clients[client].hold(*id);
                self.acknowledge(under_way, grant.revision, false)
            }
            Purpose::Revoke(_) | Purpose::Compact => {
                let (Answer::LeaseRevoke { revision } | Answer::Compact { revision }) = answer
                else {
                    return Err(format!("{under_way:?} is answered {answer:?}"));
                };
                self.acknowledge(under_way, *revision, false)
            }
            Purpose::Serializable(_) | Purpose::KeepAlive(_) => {
                Err(format!("{:?} is answered {answer:?}", under_way.purpose))
            }
        }
    }

    fn rejected(
        &mut self,
        client: usize,
        under_way: &UnderWay,
        reject: &Reject,
    ) -> Result<(), String> {
        self.counts.operations += 1;
        let is_legal = match under_way.purpose {
            Purpose::LeasePut | Purpose::Revoke(_) => {
                self.people.clients[client].lose_lease();
                *reject == Reject::LeaseNotFound
            }
            Purpose::Compact => matches!(reject, Reject::Compacted | Reject::FutureRevision),
            Purpose::Kv(_)
            | Purpose::Serializable(_)
            | Purpose::Grant(_)
            | Purpose::KeepAlive(_) => false,
        };
        if is_legal { Ok(()) } else { Err(format!("{under_way:?} is rejected: {reject:?}")) }
    }

    fn lease_reply(
        &mut self,
        client: usize,
        under_way: &UnderWay,
        reply: &Reply,
    ) -> Result<(), String> {
        let Purpose::KeepAlive(id) = under_way.purpose else {
            return Err(format!("{:?} is answered {reply:?}", under_way.purpose));
        };
        match reply {
            Reply::KeptAlive { .. } => {
                self.counts.operations += 1;
                self.checks.leases.renewed(id, (under_way.begun, under_way.jumped));
                Ok(())
            }
            Reply::NoLease => {
                self.counts.operations += 1;
                self.people.clients[client].lose_lease();
                Ok(())
            }
            Reply::NotLeader => {
                self.refused(client, under_way);
                Ok(())
            }
            Reply::TimeToLive { .. } | Reply::Leases(_) | Reply::Corrupt | Reply::Denied(_) => {
                Err(format!("a keep-alive is answered {reply:?}"))
            }
        }
    }

    /// Connects a watch to some member.
    pub(crate) fn watch_connects(&mut self, watch: usize) {
        self.close_watch(watch);
        let Some(at) = self.any_voter() else {
            self.agenda.after(SECOND, Event::WatchConnect { watch, instead: 0 });
            return;
        };
        let latency = self.network.client_latency();
        let retry = self.random.below(SECOND);
        if !self.hosts[at].is_running() || self.hosts[at].client_cuts > 0 {
            self.agenda.after(MS + retry, Event::WatchConnect { watch, instead: 0 });
            return;
        }
        self.people.calls += 1;
        let ticket = (self.people.calls << CLIENT_BITS) | watch as u64;
        let client = &mut self.people.watches[watch];
        client.connected = Some((at, ticket));
        let request = WatchCreateRequest {
            key: client.from.into(),
            range_end: client.end.into(),
            start_revision: client.log.next,
            prev_kv: client.prev_kv,
            progress_notify: true,
            ..WatchCreateRequest::default()
        };
        let process = self.hosts[at].number;
        self.agenda.after(latency, Event::WatchCreate { at, process, ticket, request });
        // The client connects elsewhere after a while.
        let stays = 5 * SECOND + self.random.below(60 * SECOND);
        self.agenda.after(stays, Event::WatchConnect { watch, instead: ticket });
        let asks = self.random.below(2 * SECOND);
        self.agenda.after(asks, Event::WatchProgress { watch, ticket });
    }

    fn close_watch(&mut self, watch: usize) {
        if let Some((at, ticket)) = self.people.watches[watch].connected.take()
            && let Some(process) = &mut self.hosts[at].process
        {
            process.gateway.watches.close(ticket);
        }
    }

    pub(crate) fn watch_is_created(
        &mut self,
        at: usize,
        ticket: u64,
        request: WatchCreateRequest,
    ) -> Result<(), String> {
        let watch = self.client_of(ticket);
        let connected = self.people.watches.get(watch).and_then(|it| it.connected);
        if connected != Some((at, ticket)) {
            return Ok(());
        }
        let now_ms = self.hosts[at].clock.now(self.now()).as_millis();
        let Some(process) = &mut self.hosts[at].process else { return Ok(()) };
        let gateway = &mut process.gateway;
        let now_ms = u64::try_from(now_ms).unwrap_or(u64::MAX);
        gateway.watches.create(ticket, request, &gateway.moment, now_ms)?;
        self.after_work(at)
    }

    pub(crate) fn watch_wants_progress(&mut self, watch: usize, ticket: u64) -> Result<(), String> {
        let connected = self.people.watches[watch].connected;
        let Some((at, _)) = connected.filter(|it| it.1 == ticket) else { return Ok(()) };
        if !self.hosts[at].is_running() {
            return Ok(());
        }
        if let Some(process) = &mut self.hosts[at].process {
            process.gateway.watches.request_progress(ticket);
        }
        let asks = SECOND / 5 + self.random.below(4 * SECOND);
        self.agenda.after(asks, Event::WatchProgress { watch, ticket });
        self.after_work(at)
    }

    /// Sends a response to the client of a watch. Responses arrive in order.
    pub(crate) fn watch_is_sent(&mut self, at: usize, ticket: u64, response: WatchResponse) {
        let watch = self.client_of(ticket);
        let latency = self.network.client_latency();
        let is_cut = self.hosts[at].client_cuts > 0;
        let now = self.now();
        let Some(client) = self.people.watches.get_mut(watch) else { return };
        if client.connected != Some((at, ticket)) {
            return;
        }
        if is_cut {
            self.nemesis.kept_away += 1;
            // A lost response breaks the connection.
            self.watch_connects(watch);
            return;
        }
        client.last_arrival = client.last_arrival.max(now + latency);
        let arrival = client.last_arrival;
        self.agenda.at(arrival, Event::Watched { ticket, response: Box::new(response) });
    }

    pub(crate) fn watch_takes(
        &mut self,
        ticket: u64,
        response: &WatchResponse,
    ) -> Result<(), String> {
        let watch = self.client_of(ticket);
        let Some(client) = self.people.watches.get_mut(watch) else { return Ok(()) };
        if client.connected.is_none_or(|(_, known)| known != ticket) {
            return Ok(());
        }
        self.counts.watched += response.events.len() as u64;
        let went = client.log.take(response, &self.checks.oracle);
        let went = went.map_err(|why| {
            format!("watch {watch} at member {:?}: {why}", client.connected.map(|(at, _)| at))
        })?;
        if let Goes::Compacted(revision) = went {
            client.log.next = revision + 1;
            self.watch_connects(watch);
        }
        Ok(())
    }

    /// Breaks the connections of clients to a process that has ended.
    pub(crate) fn break_connections(&mut self, at: usize) {
        let waiting = self.people.clients.iter().filter_map(|client| {
            let under_way = client.under_way.as_ref()?;
            (under_way.at == at).then_some(under_way.number)
        });
        for call in waiting.collect::<Vec<_>>() {
            let delay = self.network.client_latency() + self.random.below(SECOND / 2);
            self.agenda.after(delay, Event::GiveUp { call });
        }
        for watch in 0..self.people.watches.len() {
            if self.people.watches[watch].connected.is_some_and(|(it, _)| it == at) {
                self.people.watches[watch].connected = None;
                let delay = self.random.below(SECOND);
                self.agenda.after(delay, Event::WatchConnect { watch, instead: 0 });
            }
        }
    }
}

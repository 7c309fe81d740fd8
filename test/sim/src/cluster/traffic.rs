//! Messages between members, as bytes. A snapshot is sent with its database file. As in `peer`, the
//! file is durable at the receiver before consensus learns of it.

use super::clock::{MS, SECOND};
use super::event::Event;
use super::gateway::Response;
use super::network::Arrivals;
use super::world::{World, is_power_loss};
use bytes::Bytes;
use executor::ConsensusInput;
use executor::received;
use proto::NodeId;
use raft::{Body, Message, RaftSnapshot};
use std::io;
use std::path::Path;
use vfs::{Mode, SimDisk, Vfs as _};
use wire::{Received, SnapshotHeadDecoder, decode_message, encode_message, encode_snapshot_head};

/// The bytes of a snapshot that a link carries in a second.
const BYTES_PER_SECOND: u64 = 20 << 20;
/// The largest message before a snapshot's file, in bytes.
const HEAD_BYTES_MAX: usize = 1 << 20;

impl World {
    pub(crate) fn send(&mut self, from: usize, message: &Message) {
        let Some(to) = self.way(from, message.to) else { return };
        let may_repeat = !matches!(message.body, Body::Propose { .. });
        let now = self.now();
        let [first, second] = self.network.send((from, to), now, may_repeat);
        if first.is_none() || self.hosts[to].process.is_none() {
            self.may_report_unreachable(from, message);
        }
        let Some(first) = first else { return };
        let bytes = encode_message(message);
        if let Some(second) = second {
            self.agenda.at(second, Event::Message { at: to, bytes: bytes.clone() });
        }
        self.agenda.at(first, Event::Message { at: to, bytes });
    }

    /// Reports a lost message to its sender, sometimes, as a broken connection would be.
    fn may_report_unreachable(&mut self, from: usize, message: &Message) {
        if self.random.chance(64) {
            let process = self.hosts[from].number;
            let delay = self.random.below(SECOND);
            let event = Event::Unreachable { at: from, process, peer: message.to };
            self.agenda.after(delay, event);
        }
    }

    pub(crate) fn message_arrives(&mut self, at: usize, bytes: Bytes) -> Result<(), String> {
        let received = decode_message(bytes).map_err(|error| format!("a message: {error}"))?;
        let Received::Message(message) = received else {
            return Err(format!("a member sends what no member takes: {received:?}"));
        };
        if !self.is_taken(at, &message) {
            return Ok(());
        }
        let Some(process) = &mut self.hosts[at].process else { return Ok(()) };
        process.push(ConsensusInput::Message(*message));
        self.after_work(at)
    }

    /// The host of a member. `None` if the sender knows that it was removed: `peer` has no
    /// connection to a removed member.
    fn way(&self, from: usize, to: NodeId) -> Option<usize> {
        let is_removed = self.hosts[from].cluster().is_some_and(|it| it.is_removed(to));
        if is_removed { None } else { self.places.get(&to).copied() }
    }

    /// Whether a member accepts a message, by the rules of `peer`: it must be for this member, and
    /// not from a removed one. A removed sender is told of its removal.
    fn is_taken(&mut self, at: usize, message: &Message) -> bool {
        let Some(process) = &self.hosts[at].process else { return false };
        if message.to != process.id {
            return false;
        }
        let is_removed = process.gateway.moment.published.cluster.is_removed(message.from);
        if is_removed && let Some(from) = self.places.get(&message.from).copied() {
            let now = self.now();
            if let [Some(told), _] = self.network.send((at, from), now, false) {
                let process = self.hosts[from].number;
                self.agenda.at(told, Event::Gone { at: from, process });
            }
        }
        !is_removed
    }

    pub(crate) fn send_snapshot(
        &mut self,
        from: usize,
        message: &Message,
        file: &bolt::View,
    ) -> Result<(), String> {
        let mut body = encode_snapshot_head(message).to_vec();
        let mut copier = file.copy();
        loop {
            match copier.next_chunk() {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                // The sender's disk has failed, or its database is damaged.
                Err(_) => {
                    self.report_snapshot(from, message, false);
                    return Ok(());
                }
            }
        }
        let Some(to) = self.way(from, message.to) else {
            self.report_snapshot(from, message, false);
            return Ok(());
        };
        let now = self.now();
        let [first, second]: Arrivals = self.network.send((from, to), now, true);
        let Some(first) = first else {
            self.report_snapshot(from, message, false);
            return Ok(());
        };
        let took = body.len() as u64 * SECOND / BYTES_PER_SECOND;
        let body = Bytes::from(body);
        for arrival in [Some(first), second].into_iter().flatten() {
            let event = Event::Snapshot { at: to, from, body: body.clone() };
            self.agenda.at(arrival + took, event);
        }
        if self.hosts[to].process.is_none() {
            self.report_snapshot(from, message, false);
        }
        Ok(())
    }

    /// Tells the sender after a while whether a snapshot was delivered.
    fn report_snapshot(&mut self, from: usize, message: &Message, delivered: bool) {
        let delay = if delivered { MS } else { 100 * MS + self.random.below(3 * SECOND) };
        let event = Event::SnapshotSent { at: from, peer: message.to, delivered };
        self.agenda.after(delay, event);
    }

    /// Resets the connection of a request or a snapshot whose receiving process has ended.
    pub(crate) fn reset_sender(&mut self, event: Event) -> Result<(), String> {
        if let Event::Request { call, .. } = event {
            let latency = self.network.client_latency();
            let response = Response::Refused;
            self.agenda.after(latency, Event::Response { call, response });
        } else if let Event::Snapshot { from, body, .. } = event {
            let message = snapshot_of(&body)?.0;
            self.report_snapshot(from, &message, false);
        }
        Ok(())
    }

    pub(crate) fn snapshot_arrives(
        &mut self,
        at: usize,
        from: usize,
        body: &[u8],
    ) -> Result<(), String> {
        let (message, file) = snapshot_of(body)?;
        let Body::Snapshot(snapshot) = &message.body else {
            return Err("a snapshot without itself".into());
        };
        if !self.is_taken(at, &message) {
            self.report_snapshot(from, &message, false);
            return Ok(());
        }
        let host = &mut self.hosts[at];
        let dir = host.options.data_dir.join("member").join("snap");
        let saved = save(&host.disk, &dir, snapshot, &file);
        // The answer goes the other way.
        let now = self.now();
        let answer = self.network.send((at, from), now, false)[0];
        self.report_snapshot(from, &message, saved.is_ok() && answer.is_some());
        match saved {
            Ok(()) => {
                if let Some(process) = &mut self.hosts[at].process {
                    process.push(ConsensusInput::Message(*message));
                }
                self.after_work(at)
            }
            Err(error) if is_power_loss(&error.to_string()) => {
                self.stop(at, true);
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }
}

/// Decodes a snapshot: its message and its file.
fn snapshot_of(body: &[u8]) -> Result<(Box<Message>, Bytes), String> {
    let decoded = SnapshotHeadDecoder::new(HEAD_BYTES_MAX).push(body);
    let decoded = decoded.map_err(|error| format!("the head of a snapshot: {error}"))?;
    match decoded {
        Some((Received::Message(message), file)) => Ok((message, file)),
        _ => Err("a snapshot without its message".into()),
    }
}

/// Writes a received file under another name, syncs and checks it, and gives it its name.
fn save(disk: &SimDisk, dir: &Path, snapshot: &RaftSnapshot, file: &[u8]) -> io::Result<()> {
    let name = &received::path(dir, snapshot.id.index);
    let temporary = dir.join("tmp-snap-db-received");
    let open = disk.open(&temporary, Mode::Create)?;
    open.set_len(0)?;
    open.write_at(file, 0)?;
    open.sync_data()?;
    received::check(disk, &temporary, snapshot).map_err(io::Error::other)?;
    if disk.exists(name)? {
        disk.remove_file(&temporary)?;
    } else {
        disk.rename(&temporary, name)?;
    }
    disk.sync_dir(dir)
}

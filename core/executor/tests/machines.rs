//! Tests of single machines: the bounds of messages to a machine, and the order of its own
//! messages.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use backend::{Batch, Bucket};
use bytes::Bytes;
use executor::boot::Files;
use executor::{
    APPLY_BATCHES_MAX, ApplyInput, AutoCompaction, BackendInput, BootOptions, ClientMessage,
    ConsensusInput, Envelope, LogInput, LogStep, MachineOptions, Machines, RequestIds,
};
use member::Proposal;
use prost::Message as _;
use proto::etcdserverpb::{InternalRaftRequest, PutRequest, RequestHeader};
use proto::{ConfState, EntryId, HardState, Index, Term};
use state::Snapshot;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use vfs::{Fault, Injection, Operation, SimDisk, UnsyncedDisk, Vfs};

fn machines() -> Machines {
    machines_on(&SimDisk::new(1))
}

fn machines_on(disk: &SimDisk) -> Machines {
    machines_over(Arc::new(disk.clone()))
}

fn machines_over(vfs: Arc<dyn Vfs>) -> Machines {
    let options = BootOptions::simulated(1);
    let files = Files::open(&vfs, &options).unwrap();
    let (keys, log) = (files.read_keys(), files.open_log().unwrap());
    let booted = files.start(keys, log).unwrap();
    let ids = RequestIds::new(booted.metadata.node, 0, 3);
    let options = MachineOptions {
        auto_compaction: AutoCompaction::Off,
        batch_interval: Duration::ZERO,
        batch_limit: 100,
        catch_up_entries: 100,
        snapshots_max: 1,
        segments_max: 1,
        ids,
        own_lane: 1,
        contexts_lane: 2,
    };
    Machines::new(vfs, booted, &options)
}

/// Passes an input to consensus and does the log's work. Returns the other messages.
fn consensus(machines: &mut Machines, input: ConsensusInput) -> Vec<Envelope> {
    let (mut out, mut elsewhere) = (Vec::new(), Vec::new());
    machines.consensus.take(input, &mut out);
    machines.consensus.end_round(&mut out);
    while let Some(envelope) = (!out.is_empty()).then(|| out.remove(0)) {
        match envelope {
            Envelope::Log(input) => {
                machines.log_writer.take(input);
                while machines.log_writer.step(&mut out).unwrap().is_some() {}
            }
            Envelope::Consensus(input) => {
                machines.consensus.take(input, &mut out);
                machines.consensus.end_round(&mut out);
            }
            Envelope::Apply(_)
            | Envelope::Backend(_)
            | Envelope::Client(_)
            | Envelope::Peers(_)
            | Envelope::PeerSnapshot(..) => elsewhere.push(envelope),
        }
    }
    elsewhere
}

fn put(id: u64) -> ConsensusInput {
    let put = PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() };
    let header = Some(RequestHeader { id, ..RequestHeader::default() });
    let request = InternalRaftRequest { header, put: Some(put), ..Default::default() };
    ConsensusInput::Propose(Proposal::request(id, request.encode_to_vec().into()))
}

#[test]
fn the_thread_of_the_database_is_woken_by_the_first_batch_and_the_one_that_makes_it_full() {
    let mut writer = machines().backend_writer;
    let empty = || BackendInput::Batch(Arc::new(Batch::new(EntryId::default())));
    let large = || {
        let mut batch = Batch::new(EntryId::default());
        batch.put(Bucket::Meta, Bytes::from_static(b"key"), Bytes::from(vec![0; 3 << 20]));
        BackendInput::Batch(Arc::new(batch))
    };
    assert!(writer.wake_for().counts(&empty()));
    writer.take(Duration::ZERO, empty());
    let mut wake = writer.wake_for();
    for _ in 2..100 {
        assert!(!wake.counts(&empty()));
    }
    assert!(wake.counts(&empty()), "the limit of batches is 100");
    let mut wake = writer.wake_for();
    assert!(!wake.counts(&large()));
    assert!(wake.counts(&BackendInput::CommitNow));
    assert!(wake.counts(&large()), "4 MiB are half of the overlay");
}

fn committed(envelopes: Vec<Envelope>) -> Vec<ApplyInput> {
    let mut committed = Vec::new();
    for envelope in envelopes {
        if let Envelope::Apply(input @ ApplyInput::Committed { .. }) = envelope {
            committed.push(input);
        }
    }
    committed
}

fn kind(envelope: &Envelope) -> &'static str {
    match envelope {
        Envelope::Consensus(ConsensusInput::ConfChanged(_)) => "configuration changed",
        Envelope::Consensus(ConsensusInput::Applied(_)) => "applied",
        Envelope::Backend(_) => "batch",
        Envelope::Client(ClientMessage::Publish(_)) => "moment",
        Envelope::Client(ClientMessage::Answer(..)) => "answer",
        Envelope::Client(ClientMessage::Events(_)) => "events",
        Envelope::Client(_)
        | Envelope::Consensus(_)
        | Envelope::Apply(_)
        | Envelope::Log(_)
        | Envelope::Peers(_)
        | Envelope::PeerSnapshot(..) => "other",
    }
}

/// Applies committed entries. Returns the messages of the last batch, in order.
fn apply(machines: &mut Machines, inputs: Vec<ApplyInput>) -> Vec<&'static str> {
    let mut inputs = VecDeque::from(inputs);
    let mut order = Vec::new();
    while let Some(input) = inputs.pop_front() {
        let mut out = Vec::new();
        machines.applier.take(Duration::ZERO, input, &mut out).unwrap();
        out.clear();
        if machines.applier.apply_next(Duration::ZERO, &mut out).unwrap().is_some() {
            order = out.iter().map(kind).collect();
        }
        for envelope in out {
            if let Envelope::Consensus(input) = envelope {
                inputs.extend(committed(consensus(machines, input)));
            }
        }
    }
    order
}

/// A member that leads and has applied the first entry of its term.
fn leader() -> Machines {
    leader_on(&SimDisk::new(1))
}

fn leader_on(disk: &SimDisk) -> Machines {
    elected(machines_on(disk))
}

fn elected(mut machines: Machines) -> Machines {
    while !machines.applier.moment().is_linearizable() {
        let inputs = committed(consensus(&mut machines, ConsensusInput::Tick));
        apply(&mut machines, inputs);
    }
    machines
}

/// Once, a configuration change inside a batch reached consensus, which could apply the next batch,
/// before the batch itself was handed to the database.
#[test]
fn consensus_learns_of_a_configuration_change_after_the_moment_that_contains_it() {
    let mut machines = machines();
    let inputs = committed(consensus(&mut machines, ConsensusInput::Tick));
    let order = apply(&mut machines, inputs);
    assert_eq!(order, ["batch", "moment", "answer", "configuration changed", "applied"]);
}

#[test]
fn an_applier_that_does_not_apply_gets_no_more_than_its_credit() {
    let mut machines = leader();
    let mut sent = Vec::new();
    for id in 1..=20 {
        sent.extend(committed(consensus(&mut machines, put(id))));
    }
    assert_eq!(sent.len(), APPLY_BATCHES_MAX);
    let mut applied = 0;
    while !sent.is_empty() {
        applied += sent.len();
        let index = machines.applier.moment().published.applied.index.0 + applied as u64;
        sent = committed(consensus(&mut machines, ConsensusInput::Applied(Index(index))));
        assert!(sent.len() <= APPLY_BATCHES_MAX);
    }
    assert_eq!(applied, 20, "the rest follows as credit returns");
}

/// Once, a view without the last acknowledged entries was published with the flag of a leader.
#[test]
fn a_new_leader_serves_no_reads_before_it_has_applied_an_entry_of_its_term() {
    let mut machines = machines();
    while !machines.consensus.member().leads() {
        let inputs = committed(consensus(&mut machines, ConsensusInput::Tick));
        apply(&mut machines, inputs);
    }
    let mut out = Vec::new();
    let leadership = machines.consensus.member().leadership();
    let mut applier = self::machines().applier;
    let committed = ApplyInput::Committed { leadership, entries: Vec::new() };
    applier.take(Duration::ZERO, committed, &mut out).unwrap();
    assert_eq!(applier.moment().leadership, leadership);
    assert!(!applier.moment().is_linearizable());
    assert!(machines.applier.moment().is_linearizable());
}

fn append(machines: &mut Machines, id: u64) -> LogInput {
    let mut out = Vec::new();
    machines.consensus.take(put(id), &mut out);
    machines.consensus.end_round(&mut out);
    let input = out
        .into_iter()
        .find_map(|envelope| if let Envelope::Log(input) = envelope { Some(input) } else { None });
    input.expect("a proposal of a leader is appended to the log")
}

/// The state of the file after a failed sync is unknown.
#[test]
fn a_log_that_failed_to_sync_does_nothing_more() {
    let disk = SimDisk::new(1);
    let mut machines = leader_on(&disk);
    let input = append(&mut machines, 1);
    machines.log_writer.take(input);
    disk.inject(Injection::first(Operation::Sync, Fault::Io));
    let mut out = Vec::new();
    assert_eq!(machines.log_writer.step(&mut out).unwrap(), Some(LogStep::Write));
    assert!(machines.log_writer.step(&mut out).is_err());
    assert!(!machines.log_writer.has_work(), "the steps behind the sync are not done");
    assert_eq!(machines.log_writer.step(&mut out).unwrap(), None);
    assert!(out.is_empty(), "the batch is not reported as durable: {out:?}");
}

/// The entries between the database and the snapshot are in neither of them.
#[test]
fn a_database_that_is_older_than_the_snapshot_is_refused() {
    let disk = SimDisk::new(1);
    let mut machines = machines_on(&disk);
    let id = EntryId { term: Term(1), index: Index(5) };
    let tree = v2store::V2Tree::default().to_json();
    let snapshot = Snapshot { id, conf_state: ConfState::default(), data: tree.into() };
    let hard_state = HardState { commit: Index(5), ..HardState::default() };
    machines.log_writer.take(LogInput::Snapshot(snapshot, hard_state));
    while machines.log_writer.step(&mut Vec::new()).unwrap().is_some() {}
    drop(machines);
    let vfs: Arc<dyn Vfs> = Arc::new(disk);
    let options = BootOptions::simulated(1);
    let files = Files::open(&vfs, &options).unwrap();
    let error = files.open_log().unwrap_err().to_string();
    assert!(error.contains("it is older than the log"), "{error}");
}

/// Only what is needed now may stop a member.
#[test]
fn a_snapshot_without_space_is_left_out_and_the_next_one_is_saved() {
    let disk = SimDisk::new(1);
    let mut machines = machines_on(&disk);
    let snapshot = |index: u64| Snapshot {
        id: EntryId { term: Term(1), index: Index(index) },
        conf_state: ConfState::default(),
        data: Bytes::from_static(b"{}"),
    };
    let hard_state = HardState { commit: Index(1), ..HardState::default() };
    let mut steps = Vec::new();
    for (fault, index) in [(true, 0), (false, 1)] {
        if fault {
            disk.inject(Injection::first(Operation::Create, Fault::NoSpace));
        }
        machines.log_writer.take(LogInput::Snapshot(snapshot(index), hard_state));
        let mut out = Vec::new();
        while let Some(step) = machines.log_writer.step(&mut out).unwrap() {
            steps.push(step);
        }
        let is_done =
            |envelope: &Envelope| matches!(envelope, Envelope::Apply(ApplyInput::SnapshotSaved));
        assert!(out.iter().any(is_done), "the applier may send the next one");
    }
    let saved =
        [LogStep::EncodeSnapshot, LogStep::SaveSnapshot, LogStep::RecordSnapshot, LogStep::Purge];
    assert_eq!(steps, [&[LogStep::EncodeSnapshot, LogStep::SkipSnapshot][..], &saved].concat());
}

/// The calls to the disk while a new member starts, writes an entry, saves a snapshot and commits its
/// database.
fn calls(wrap: impl FnOnce(SimDisk) -> Arc<dyn Vfs>) -> Vec<(Operation, PathBuf)> {
    let disk = SimDisk::new(1);
    disk.record_every(1);
    let mut machines = elected(machines_over(wrap(disk.clone())));
    let input = append(&mut machines, 1);
    machines.log_writer.take(input);
    let id = EntryId { term: Term(1), index: Index(1) };
    let data = v2store::V2Tree::default().to_json().into();
    let snapshot = Snapshot { id, conf_state: ConfState::default(), data };
    let hard_state = HardState { commit: Index(1), ..HardState::default() };
    machines.log_writer.take(LogInput::Snapshot(snapshot, hard_state));
    while machines.log_writer.step(&mut Vec::new()).unwrap().is_some() {}
    machines.backend_writer.commit(Duration::ZERO, &mut Vec::new()).unwrap();
    disk.take_recorded().into_iter().map(|call| (call.operation, call.path)).collect()
}

#[test]
fn without_syncs_of_files_all_other_calls_to_the_disk_are_the_same_in_the_same_order() {
    let synced = calls(|disk| Arc::new(disk));
    let unsynced = calls(|disk| Arc::new(UnsyncedDisk::new(Arc::new(disk))));
    let is_sync = |(operation, _): &&(Operation, PathBuf)| *operation == Operation::Sync;
    for name in ["db", ".wal", ".snap"] {
        let is_synced = synced
            .iter()
            .filter(is_sync)
            .any(|(_, path)| path.to_str().is_some_and(|path| path.contains(name)));
        assert!(is_synced, "{name} is synced without the option");
    }
    let others: Vec<_> = synced.iter().filter(|call| !is_sync(call)).cloned().collect();
    assert!(others.iter().any(|(operation, _)| *operation == Operation::SyncDir));
    assert_eq!(unsynced, others);
}

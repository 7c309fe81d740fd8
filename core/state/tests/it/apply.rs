//! Scripts of applied entries: the answer and events of each request, and the effects of time on
//! leases and compactions.
//!
//! A command is a request, or `txn` with operations as its input: `if KEY FIELD OP NUMBER`,
//! `then OPERATION`, `else OPERATION`. The lines of a nested `txn` follow it, indented.

use backend::Backend;
use bytes::Bytes;
use proto::answer::{Answer, OpAnswer, RangeAnswer, TxnAnswer};
use proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RequestHeader, RequestOp, TxnRequest,
    compare::TargetUnion, request_op::Request,
};
use proto::mvccpb::KeyValue;
use proto::{Entry, EntryKind, Index, LeaseId, NodeId, Term};
use script::{Arg, Case};
use state::{Effect, Input, Leader, LeaseQuery, Question, Reply, State};
use std::path::Path;
use std::sync::Arc;

#[test]
fn entries_are_applied_as_the_scripts_say() {
    for path in script::scripts(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts")) {
        let mut world = World::new();
        script::run(path, |case| world.run(case));
    }
}

struct World {
    state: State,
    index: u64,
    now_ms: u64,
    _disk: vfs::SimDisk,
}

impl World {
    fn new() -> World {
        let disk = vfs::SimDisk::new(1);
        let cache = Arc::new(bolt::PageCache::new(64 * 1024));
        let options = bolt::Options { new_page_size: 4096, cache, read_only: false };
        let backend = Backend::open(&disk, Path::new("db"), options).unwrap();
        let settings = state::Settings {
            member: NodeId(7),
            quota: state::quota::Quota::from_flag(-1),
            snapshot_count: 10_000,
            compaction_slice: 1,
            lease_ttl_s_min: 2,
            bcrypt_cost: 4,
            lease_extend_ms: 1_000,
            lease_checkpoints: state::LeaseCheckpoints::default(),
            learners_max: 1,
            raise_cluster_version: false,
            downgrade_check_ms: 5_000,
            attributes: cluster::Attributes { name: "n".into(), client_urls: Vec::new() },
        };
        let log = state::LogTail { v2: None, snapshot_index: Index(0), entries: Vec::new() };
        let state = State::open(settings, backend.view(), &log).unwrap();
        let mut world = World { state, index: 1, now_ms: 0, _disk: disk };
        world.step(Input::Leadership(Term(1), Leader::Me));
        let (term, index, kind) = (Term(1), Index(1), EntryKind::Normal);
        world.step(Input::Apply(vec![Entry { term, index, kind, data: Bytes::new() }]));
        world
    }

    fn run(&mut self, case: &Case) -> String {
        let none = InternalRaftRequest::default();
        let request = match case.command.as_str() {
            "txn" => {
                let lines: Vec<&str> = case.input.lines().collect();
                InternalRaftRequest { txn: Some(txn(&lines)), ..none }
            }
            "put" => InternalRaftRequest { put: Some(put(&case.args)), ..none },
            "delete" => InternalRaftRequest { delete_range: Some(delete(&case.args)), ..none },
            "range" => InternalRaftRequest { range: Some(range(&case.args)), ..none },
            "compact" => {
                let (revision, physical) = (case.word(0), case.has("physical"));
                let compaction = Some(CompactionRequest { revision, physical });
                InternalRaftRequest { compaction, ..none }
            }
            "grant" => {
                let grant = LeaseGrantRequest { id: case.word(0), ttl: case.word(1) };
                InternalRaftRequest { lease_grant: Some(grant), ..none }
            }
            "revoke" => {
                let revoke = LeaseRevokeRequest { id: case.word(0) };
                InternalRaftRequest { lease_revoke: Some(revoke), ..none }
            }
            "wait" => {
                self.now_ms += case.word::<u64>(0) * 1_000;
                return self.step(Input::Tick);
            }
            "idle" => return self.step(Input::Idle),
            "alive" => return self.ask(LeaseQuery::KeepAlive(LeaseId(case.word(0)))),
            "ttl" => {
                let lease = LeaseId(case.word(0));
                return self.ask(LeaseQuery::TimeToLive { lease, keys: true });
            }
            other => panic!("no command {other}"),
        };
        self.apply(request)
    }

    fn ask(&mut self, query: LeaseQuery) -> String {
        self.step(Input::Ask(1, Question { caller: None, query }))
    }

    fn apply(&mut self, mut request: InternalRaftRequest) -> String {
        use prost::Message as _;
        self.index += 1;
        request.header = Some(RequestHeader { id: self.index, ..RequestHeader::default() });
        let data = Bytes::from(request.encode_to_vec());
        let (term, index) = (Term(1), Index(self.index));
        self.step(Input::Apply(vec![Entry { term, index, kind: EntryKind::Normal, data }]))
    }

    fn step(&mut self, input: Input) -> String {
        let mut effects = Vec::new();
        self.state.step(self.now_ms, input, &mut effects).unwrap();
        let mut text = String::new();
        for effect in effects {
            text.push_str(&self.describe(effect));
        }
        if text.is_empty() { "nothing".to_owned() } else { text }
    }

    fn describe(&self, effect: Effect) -> String {
        match effect {
            Effect::Answer(id, answer) => {
                let other = if id == self.index { String::new() } else { format!("#{id} ") };
                match answer {
                    Ok(answer) => format!("{other}{}\n", answered(&answer)),
                    Err(reject) => format!("{other}refused: {reject:?}\n"),
                }
            }
            Effect::Events(batches) => {
                let mut text = String::new();
                for batch in batches {
                    for event in &batch.events {
                        let key = String::from_utf8_lossy(&event.key);
                        text.push_str(&format!(
                            "event {:?} {key} at {}\n",
                            event.kind, batch.revision
                        ));
                    }
                }
                text
            }
            Effect::Reply(_, reply) => match reply {
                Reply::KeptAlive { ttl_s } => format!("renewed for {ttl_s} s\n"),
                Reply::TimeToLive { granted_ttl_s, remaining_s, keys } => {
                    format!("{remaining_s} of {granted_ttl_s} s, {keys:?}\n")
                }
                other @ (Reply::Leases(_)
                | Reply::NoLease
                | Reply::NotLeader
                | Reply::Corrupt
                | Reply::Denied(_)) => {
                    format!("{other:?}\n")
                }
            },
            Effect::Propose(request, _) => match request.lease_revoke {
                Some(revoke) => format!("proposes to revoke {}\n", revoke.id),
                None => String::new(),
            },
            Effect::Commit(_)
            | Effect::Publish(_)
            | Effect::Tokens(_)
            | Effect::ConfChanged(_)
            | Effect::Applied(_)
            | Effect::Snapshot(_) => String::new(),
        }
    }
}

fn answered(answer: &Answer) -> String {
    match answer {
        Answer::Put(put) => format!("revision {}{}", put.revision, had(put.prev.as_ref())),
        Answer::Delete(delete) => {
            format!("revision {}, {} deleted", delete.revision, delete.deleted)
        }
        Answer::Range(range) => found(range),
        Answer::Txn(txn) => format!("revision {}\n{}", txn.revision, branch(txn, "  ")),
        Answer::Compact { revision } => format!("compacted, revision {revision}"),
        Answer::LeaseGrant(grant) => format!("lease {} for {} s", grant.id, grant.ttl_s),
        Answer::LeaseRevoke { revision } => format!("revoked, revision {revision}"),
        other @ (Answer::Alarm { .. } | Answer::Auth(_) | Answer::Done) => format!("{other:?}"),
    }
}

fn branch(txn: &TxnAnswer, indent: &str) -> String {
    let mut text = format!("{indent}{}", if txn.succeeded { "then" } else { "else" });
    for answer in &txn.responses {
        let answer = match answer {
            OpAnswer::Put(put) => format!("put{}", had(put.prev.as_ref())),
            OpAnswer::Delete(delete) => format!("{} deleted", delete.deleted),
            OpAnswer::Range(range) => found(range),
            OpAnswer::Txn(txn) => format!("txn\n{}", branch(txn, &format!("{indent}  "))),
        };
        text.push_str(&format!("\n{indent}- {answer}"));
    }
    text
}

fn had(prev: Option<&Bytes>) -> String {
    prev.map(|prev| format!(", had {}", key_value(prev))).unwrap_or_default()
}

fn found(range: &RangeAnswer) -> String {
    let kvs: Vec<String> = range.kvs.iter().map(key_value).collect();
    let more = if range.more { " and more" } else { "" };
    format!("{} of {}{more}: {}", kvs.len(), range.count, kvs.join(" "))
}

fn key_value(encoded: &Bytes) -> String {
    use prost::Message as _;
    let kv = KeyValue::decode(encoded.clone()).unwrap();
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let lease = if kv.lease == 0 { String::new() } else { format!(" lease {}", kv.lease) };
    format!(
        "{}={} ({}/{}/{}{lease})",
        text(&kv.key),
        text(&kv.value),
        kv.create_revision,
        kv.mod_revision,
        kv.version
    )
}

fn words(args: &[Arg]) -> Vec<Bytes> {
    let plain = args.iter().filter(|arg| arg.values.is_empty());
    plain.map(|arg| Bytes::copy_from_slice(arg.key.as_bytes())).collect()
}

fn number(args: &[Arg], name: &str) -> i64 {
    let arg = args.iter().find(|arg| arg.key == name);
    arg.map_or(0, |arg| arg.values[0].parse().unwrap())
}

/// `\0` stands for the end of the key space.
fn end(words: &[Bytes]) -> Bytes {
    match words.get(1) {
        None => Bytes::new(),
        Some(end) if end == "\\0" => Bytes::from_static(b"\0"),
        Some(end) => end.clone(),
    }
}

/// `KEY VALUE`; without a value the key keeps its own, with `lease=keep` its lease.
fn put(args: &[Arg]) -> PutRequest {
    let words = words(args);
    let lease = args.iter().find(|arg| arg.key == "lease").map(|arg| arg.values[0].as_str());
    PutRequest {
        key: words[0].clone(),
        value: words.get(1).cloned().unwrap_or_default(),
        ignore_value: words.len() < 2,
        ignore_lease: lease == Some("keep"),
        lease: lease.and_then(|lease| lease.parse().ok()).unwrap_or_default(),
        prev_kv: args.iter().any(|arg| arg.key == "prev"),
    }
}

fn delete(args: &[Arg]) -> DeleteRangeRequest {
    let words = words(args);
    DeleteRangeRequest { key: words[0].clone(), range_end: end(&words), prev_kv: false }
}

fn range(args: &[Arg]) -> RangeRequest {
    let words = words(args);
    RangeRequest {
        key: words[0].clone(),
        range_end: end(&words),
        revision: number(args, "revision"),
        limit: number(args, "limit"),
        ..RangeRequest::default()
    }
}

fn args(words: &[&str]) -> Vec<Arg> {
    let arg = |word: &&str| match word.split_once('=') {
        None => Arg { key: (*word).to_owned(), values: Vec::new() },
        Some((key, value)) => Arg { key: key.to_owned(), values: vec![value.to_owned()] },
    };
    words.iter().map(arg).collect()
}

fn txn(lines: &[&str]) -> TxnRequest {
    let mut txn = TxnRequest::default();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        at += 1;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [first, rest @ ..] = &words[..] else { continue };
        if *first == "if" {
            txn.compare.push(compare(rest));
            continue;
        }
        let (name, rest) = rest.split_first().expect("an operation");
        let rest = args(rest);
        let request = match *name {
            "put" => Request::RequestPut(put(&rest)),
            "delete" => Request::RequestDeleteRange(delete(&rest)),
            "range" => Request::RequestRange(range(&rest)),
            "txn" => {
                let inner = lines[at..].iter().take_while(|line| line.starts_with("  "));
                let inner: Vec<&str> = inner.map(|line| &line[2..]).collect();
                at += inner.len();
                Request::RequestTxn(self::txn(&inner))
            }
            other => panic!("no operation {other}"),
        };
        let branch = if *first == "then" { &mut txn.success } else { &mut txn.failure };
        branch.push(RequestOp { request: Some(request) });
    }
    txn
}

fn compare(words: &[&str]) -> Compare {
    let [key, field, sign, number] = words else { panic!("if KEY FIELD OP NUMBER") };
    let number: i64 = number.parse().unwrap();
    let (target, union) = match *field {
        "version" => (0, TargetUnion::Version(number)),
        "created" => (1, TargetUnion::CreateRevision(number)),
        "modified" => (2, TargetUnion::ModRevision(number)),
        other => panic!("no field {other}"),
    };
    let result = ["=", ">", "<", "!="].iter().position(|known| known == sign).unwrap();
    Compare {
        result: i32::try_from(result).unwrap(),
        target,
        key: Bytes::copy_from_slice(key.as_bytes()),
        target_union: Some(union),
        ..Compare::default()
    }
}

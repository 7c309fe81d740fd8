//! Checks that a member that starts on the disk after a crash has lost nothing: it boots, its log
//! holds every acknowledged entry and a prefix of the others, and its store, in memory and in the
//! file, equals the state that the twin computes from exactly these entries.

use crate::driver::{Driver, Observation};
use crate::history::{Expected, History};
use crate::twin::Moment;
use auth::Caller;
use bytes::Bytes;
use executor::BootOptions;
use mvcc::{KeyRange, RangeQuery};
use prost::Message as _;
use proto::answer::Answer;
use proto::etcdserverpb::{InternalRaftRequest, PutRequest};
use proto::{Entry, Index, LeaseId, leasepb};
use state::{LeaseQuery, Reply};
use std::collections::BTreeMap;
use vfs::SimDisk;

/// The entries that an image must and may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The last acknowledged entry, which the image must hold.
    pub acknowledged: Index,
    /// The last entry that may be one of the history. A member that started on an image wrote the
    /// later ones; they must be a new leader's own.
    pub history_end: Index,
}

/// The number of the start of a checked member. No start of the run has it.
const CHECK_START: u64 = 1 << 10;

/// Starts a member and checks it. Returns the last entry of the history that it holds.
///
/// # Errors
/// When a check fails.
pub fn check(
    history: &History,
    image: &SimDisk,
    options: &BootOptions,
    bounds: Bounds,
) -> Result<Index, String> {
    let mut driver =
        Driver::boot(image, options, CHECK_START).map_err(|error| format!("boot: {error}"))?;
    let found = driver.last_index().min(bounds.history_end);
    if found < bounds.acknowledged {
        return Err(format!(
            "entry {} was acknowledged, and the log ends at {found}",
            bounds.acknowledged
        ));
    }
    // The member leads after the first tick and makes its own proposals at the second.
    for _ in 0..2 {
        driver.tick()?;
        driver.settle()?;
    }
    check_applied(history, driver.take_observations(), found)?;
    if !driver.is_ready() {
        return Err("it does not lead".into());
    }
    let start;
    let (moment, expected) = match history.after(found) {
        Some(after) => after,
        None => {
            start = history.start();
            (&start.0, &start.1)
        }
    };
    check_file(&driver, moment, expected)?;
    check_view(&driver, moment, expected)?;
    check_leases(&mut driver, expected)?;
    // Later writes are not in the history, so their points cannot be checked.
    image.record_every(0);
    check_goes_on(&mut driver, moment.revision)?;
    Ok(found)
}

/// Checks that the applied entries are the history's up to `found`, and then a new leader's.
fn check_applied(
    history: &History,
    observations: Vec<Observation>,
    found: Index,
) -> Result<(), String> {
    for observation in observations {
        let Observation::Applying(entry) = observation else { continue };
        let fits = match history.entry(entry.index) {
            Some(known) if entry.index <= found => *known == entry,
            Some(_) | None => is_housekeeping(&entry),
        };
        if !fits {
            return Err(format!("entry {} was never written: {entry:?}", entry.index));
        }
    }
    Ok(())
}

/// True for an entry that a new leader proposes by itself. It changes no key and no lease.
fn is_housekeeping(entry: &Entry) -> bool {
    let Ok(mut request) = InternalRaftRequest::decode(entry.data.clone()) else { return false };
    request.header = None;
    request.cluster_version_set = None;
    request.cluster_member_attr_set = None;
    // In a cluster without a version the attributes are sent in the form of older members.
    if request.v2.as_ref().is_some_and(|v2| v2.path().ends_with("/attributes")) {
        request.v2 = None;
    }
    request == InternalRaftRequest::default()
}

/// All pairs of a bucket of the file.
fn pairs(file: &bolt::View, bucket: &str) -> Result<Vec<(Bytes, Bytes)>, String> {
    let mut cursor = file.cursor(bucket.as_bytes(), false);
    let mut pairs = Vec::new();
    cursor.seek(b"").map_err(|error| error.to_string())?;
    while let Some(pair) = cursor.next().map_err(|error| error.to_string())? {
        pairs.push(pair);
    }
    Ok(pairs)
}

fn check_file(driver: &Driver, moment: &Moment, expected: &Expected) -> Result<(), String> {
    let file = driver.file();
    file.check().map_err(|error| format!("the file: {error}"))?;
    let mut found = pairs(&file, "key")?;
    let compacted = moment.compacted.to_be_bytes();
    // Only some versions of etcd keep tombstones at the compacted revision.
    found.retain(|(key, _)| !(key.last() == Some(&b't') && key.starts_with(&compacted)));
    let same = found.len() == expected.pairs.len()
        && found
            .iter()
            .zip(&expected.pairs)
            .all(|(found, wanted)| found.0 == wanted.0 && found.1 == wanted.1);
    if !same {
        let first = found
            .iter()
            .zip(&expected.pairs)
            .position(|(found, wanted)| found.0 != wanted.0 || found.1 != wanted.1);
        return Err(format!(
            "the file holds {} versions and should hold {}; the first that differs is number {:?}",
            found.len(),
            expected.pairs.len(),
            first
        ));
    }
    let mut leases = BTreeMap::new();
    for (_, value) in pairs(&file, "lease")? {
        let lease = leasepb::Lease::decode(value).map_err(|error| error.to_string())?;
        leases.insert(lease.id, lease.ttl);
    }
    if leases != *moment.leases {
        return Err(format!("the file's leases are {leases:?}, not {:?}", moment.leases));
    }
    Ok(())
}

fn check_view(driver: &Driver, moment: &Moment, expected: &Expected) -> Result<(), String> {
    let view = &driver.published().view;
    let revisions = (view.revision(), view.compact_revision());
    if revisions != (moment.revision, moment.compacted) {
        return Err(format!(
            "revision and compact revision are {revisions:?}, and should be {} and {}",
            moment.revision, moment.compacted
        ));
    }
    let all = RangeQuery::of(KeyRange::Span { from: Bytes::new(), end: None });
    let all = driver.published().auth.permit(&Caller::default(), all);
    let all = all.map_err(|denied| format!("a range: {denied}"))?;
    let cursor = view.range(&all).map_err(|error| format!("a range: {error:?}"))?;
    let (live, count) = cursor.read_all().map_err(|error| error.to_string())?;
    if live != expected.live || count != live.len() as u64 {
        return Err(format!("{count} keys are read, not the {} there are", expected.live.len()));
    }
    let mut hash = view.hash_kv(0).map_err(|error| format!("HashKV: {error:?}"))?;
    let hash = loop {
        if let Some(hash) = hash.step().map_err(|error| error.to_string())? {
            break hash;
        }
    };
    if hash.hash != expected.hash {
        return Err(format!("HashKV is {:08x}, and should be {:08x}", hash.hash, expected.hash));
    }
    Ok(())
}

fn check_leases(driver: &mut Driver, expected: &Expected) -> Result<(), String> {
    let Some(Reply::Leases(mut leases)) = driver.ask(LeaseQuery::List)? else {
        return Err("nobody says which leases there are".into());
    };
    leases.sort_unstable();
    let wanted: Vec<LeaseId> = expected.keys_of_leases.keys().copied().map(LeaseId).collect();
    if leases != wanted {
        return Err(format!("the leases are {leases:?}, not {wanted:?}"));
    }
    for (lease, wanted) in &expected.keys_of_leases {
        let question = LeaseQuery::TimeToLive { lease: LeaseId(*lease), keys: true };
        match driver.ask(question)? {
            Some(Reply::TimeToLive { keys, .. }) if keys == *wanted => {}
            other => return Err(format!("lease {lease} is {other:?}; its keys are {wanted:?}")),
        }
    }
    Ok(())
}

/// Checks that a write is accepted and gets the next revision.
fn check_goes_on(driver: &mut Driver, revision: i64) -> Result<(), String> {
    let put = PutRequest { key: "after".into(), value: "crash".into(), ..PutRequest::default() };
    let id = driver.submit(InternalRaftRequest { put: Some(put), ..Default::default() });
    driver.settle()?;
    let answered =
        driver.take_observations().into_iter().find_map(|observation| match observation {
            Observation::Answer(answered, answer) if answered == id => Some(answer),
            Observation::Answer(..)
            | Observation::Appending(_)
            | Observation::Applying(_)
            | Observation::Reply(_)
            | Observation::Moment { .. }
            | Observation::Events(_) => None,
        });
    match answered {
        Some(Ok(Answer::Put(put))) if put.revision == revision + 1 => Ok(()),
        other => Err(format!("a write after revision {revision} is answered {other:?}")),
    }
}

//! Databases between members.

use crate::node::Node;
use bolt::{Db, Options, PageCache};
use bytes::Bytes;
use proto::{EntryId, Index, NodeId, Term};
use raft::{Body, Message, RaftSnapshot};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use vfs::RealDisk;

/// A database of a few MiB, and its file as it is sent.
fn database(dir: &std::path::Path) -> (Db, Vec<u8>) {
    let options =
        Options { new_page_size: 4096, cache: Arc::new(PageCache::new(1 << 20)), read_only: false };
    let mut db = Db::open(&RealDisk, &dir.join("source"), options).unwrap();
    let mut tx = db.begin();
    tx.create_bucket(b"key").unwrap();
    tx.create_bucket(b"meta").unwrap();
    let number = |number: u64| Bytes::copy_from_slice(&number.to_be_bytes());
    tx.put(b"meta", "consistent_index".into(), number(0x1f)).unwrap();
    tx.put(b"meta", "term".into(), number(2)).unwrap();
    for number in 0..3000_u32 {
        let key = Bytes::copy_from_slice(&number.to_be_bytes());
        tx.put(b"key", key, Bytes::from(vec![number.to_be_bytes()[3]; 1500])).unwrap();
    }
    tx.commit().unwrap();
    let (mut copier, mut file) = (db.view().copy(), Vec::new());
    while let Some(chunk) = copier.next_chunk().unwrap() {
        file.extend_from_slice(&chunk);
    }
    (db, file)
}

fn snapshot(from: &Node, to: NodeId, index: u64) -> Message {
    let id = EntryId { term: Term(2), index: Index(index) };
    let data = v2store::V2Tree::default().to_json().into();
    let snapshot = RaftSnapshot { id, data, ..RaftSnapshot::default() };
    from.message(to, Body::Snapshot(Box::new(snapshot)))
}

#[test]
fn a_database_arrives_whole_before_its_message() {
    let (one, two) = (Node::new(1), Node::new(2));
    one.knows(&[&two]);
    let (db, file) = database(one.dir.path());
    assert!(file.len() > 4 << 20);
    let message = snapshot(&one, two.id, 0x1f);
    one.transport.send_snapshot(message.clone(), &db.view());
    two.inbox.take(&message);
    let received = std::fs::read(two.dir.path().join("000000000000001f.snap.db")).unwrap();
    assert!(received == file, "{} and {} bytes", received.len(), file.len());
    let sent = one.inbox.wait("the end is reported", |told| told.snapshots.pop());
    assert_eq!(sent, (two.id, true));
}

#[test]
fn a_snapshot_for_another_member_or_without_a_database_is_reported_as_failed() {
    let (one, two) = (Node::new(1), Node::new(2));
    one.knows(&[&two]);
    let (db, _) = database(one.dir.path());
    // The receiver has another id than the message.
    let other = Node::new(3);
    let members = crate::node::urls(&[(NodeId(2), &*other.url)]);
    one.transport.set_members(&members, &std::collections::BTreeSet::new());
    one.transport.send_snapshot(snapshot(&one, two.id, 5), &db.view());
    let sent = one.inbox.wait("refused", |told| told.snapshots.pop());
    assert_eq!(sent, (two.id, false));
    one.transport.send(vec![snapshot(&one, two.id, 5)]);
    let sent = one.inbox.wait("not sent without its database", |told| told.snapshots.pop());
    assert_eq!(sent, (two.id, false));
    assert_eq!(std::fs::read_dir(other.dir.path()).unwrap().count(), 0);
}

/// Sends a snapshot with these bytes as its file. Returns the response.
fn post(two: &Node, message: &Message, file: &[u8]) -> String {
    let head = wire::encode_snapshot_head(message);
    let request = format!(
        "POST /raft/snapshot HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Server-From: 1\r\nX-Server-Version: 3.5.0\r\n\
         X-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: 1c\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
        head.len()
    );
    let mut client = TcpStream::connect(two.url.strip_prefix("http://").unwrap()).unwrap();
    client.write_all(request.as_bytes()).unwrap();
    client.write_all(&head).unwrap();
    client.write_all(format!("\r\n{:x}\r\n", file.len()).as_bytes()).unwrap();
    client.write_all(file).unwrap();
    client.write_all(b"\r\n0\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.set_read_timeout(Some(crate::node::PATIENCE)).unwrap();
    client.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_bad_database_is_refused_and_leaves_nothing_and_a_good_one_is_taken_after_it() {
    let (one, two) = (Node::new(1), Node::new(2));
    let (_db, good) = database(one.dir.path());
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = good.clone();
        change(&mut file);
        file
    };
    let at = |index| snapshot(&one, two.id, index);
    let garbage = vec![7; 0x400];
    let metas = |file: &mut Vec<u8>| file[..8192].fill(0x55);
    let page = |file: &mut Vec<u8>| file[40 * 4096] ^= 0xff;
    let other = {
        let options = Options {
            new_page_size: 4096,
            cache: Arc::new(PageCache::new(1 << 20)),
            read_only: false,
        };
        let path = one.dir.path().join("other");
        let mut db = Db::open(&RealDisk, &path, options).unwrap();
        let mut tx = db.begin();
        tx.create_bucket(b"widgets").unwrap();
        tx.commit().unwrap();
        drop(db);
        std::fs::read(path).unwrap()
    };
    for (index, file, why) in [
        (9, [&garbage[..], b"odd"].concat(), "1027 bytes are no database"),
        (9, garbage, ""),
        (9, changed(&|file| file.truncate(file.len() / 8192 * 4096)), ""),
        (9, changed(&|file| file.truncate(8192)), ""),
        (9, changed(&metas), ""),
        (9, changed(&page), "page 40"),
        (9, other, "the database has no bucket \"key\""),
        (0x20, good.clone(), "the database has applied only entry 31 of term 2"),
    ] {
        let answer = post(&two, &at(index), &file);
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(
            answer.contains("failed to save KV snapshot (") && answer.contains(why),
            "{answer}"
        );
        assert_eq!(std::fs::read_dir(two.dir.path()).unwrap().count(), 0);
    }
    let mut message = at(9);
    if let Body::Snapshot(snapshot) = &mut message.body {
        snapshot.data = "no JSON".into();
    }
    assert!(post(&two, &message, &good).starts_with("HTTP/1.1 500 "));
    assert!(post(&two, &at(0x1f), &good).starts_with("HTTP/1.1 204 "));
    two.inbox.take(&at(0x1f));
}

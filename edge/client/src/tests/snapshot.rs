//! The download of a snapshot over a connection.

use super::run;
use super::server::Hosts;
use crate::Error;
use proto::etcdserverpb as pb;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

fn piece(blob: Vec<u8>, remaining_bytes: u64) -> pb::SnapshotResponse {
    let (blob, version) = (blob.into(), "3.7".to_string());
    pb::SnapshotResponse { blob, remaining_bytes, version, ..pb::SnapshotResponse::default() }
}

#[test]
fn a_snapshot_that_ends_early_is_an_error() {
    run(async {
        for is_whole in [true, false] {
            let hosts = Arc::new(Hosts::default());
            let mut listener = hosts.listen("a");
            let client = hosts.client(&["a"]).await;
            let task = tokio::spawn(async move {
                let mut snapshot = client.snapshot().await.unwrap();
                let first = snapshot.next().await.unwrap().unwrap();
                assert_eq!((first.len(), snapshot.received(), snapshot.size()), (512, 512, 544));
                assert_eq!(snapshot.version(), "3.7");
                if is_whole {
                    assert_eq!(snapshot.next().await.unwrap().unwrap().len(), 32);
                }
                snapshot.next().await
            });
            let mut server = listener.serve().await;
            let mut call = server.call("Maintenance/Snapshot").await;
            let hash = Sha256::digest([1; 512]).to_vec();
            call.answer(&piece(vec![1; 512], 32));
            match is_whole {
                true => call.finish(&piece(hash, 0)),
                false => call.fail(tonic::Code::Ok, ""),
            }
            match task.await.unwrap() {
                Ok(None) => assert!(is_whole),
                Err(Error::Snapshot(why)) => {
                    assert_eq!(why, "sha256 checksum not found [bytes: 512]");
                    assert!(!is_whole);
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

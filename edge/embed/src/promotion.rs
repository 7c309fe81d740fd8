//! `--auto-promote-learners`: the leader makes a learner a voter as soon as its log is in sync. In
//! etcd an operator does this.

use crate::status::PeerPort;
use peer::remote::{self, RemoteError};
use std::io;
use std::thread;
use std::time::Duration;

/// How often a leader looks for learners that are in sync.
const EVERY: Duration = Duration::from_secs(1);

/// Starts the thread that promotes learners while this member leads. It ends with the member.
///
/// # Errors
/// When the operating system gives no thread.
pub(crate) fn watch(port: PeerPort) -> io::Result<()> {
    let promote = move || {
        let Some(handle) = port.status.handle().cloned() else { return };
        while !handle.is_stopped() {
            thread::sleep(EVERY);
            let moment = handle.moment();
            let leads = moment.leadership.leader == handle.identity().member;
            let has_learner = moment.published.cluster.members().any(|member| member.is_learner);
            drop(moment);
            if !leads || !has_learner {
                continue;
            }
            let promoted = remote::blocking(async {
                let work = |worker: server::Worker| async move { worker.promote_learners().await };
                let promoted = port.on_worker(work).await;
                promoted.map_err(|error| RemoteError::Unreachable(error.to_string()))
            });
            if let Err(error) = promoted {
                tracing::warn!(%error, "failed to promote a learner");
            }
        }
    };
    thread::Builder::new().name("promotion".to_owned()).spawn(promote).map(drop)
}

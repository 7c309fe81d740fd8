//! The client against a server that follows a script, over pipes and on a clock that tokio drives:
//! the clock advances when nothing else can run, so that no test takes long.

mod balance;
mod calls;
mod metrics;
pub(crate) mod server;

use std::time::Duration;
use tokio::time::timeout;

/// How long a step of a test may wait, on the clock of the test. No timeout of the client that the
/// tests reach is as long, so what has not happened by then will not happen.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How long a whole test may take on its clock; it has a few steps of [`WAIT_MAX`] at most.
const TEST_MAX: Duration = Duration::from_secs(3600);

/// Runs a test. One that waits for ever fails: when everything waits, its clock advances to
/// [`TEST_MAX`] at once.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    let ended = runtime.block_on(async { timeout(TEST_MAX, test).await });
    assert!(ended.is_ok(), "the test waits for something that does not happen");
}

/// The outcome of a step of a test.
///
/// # Panics
/// When it has not happened after [`WAIT_MAX`].
async fn in_time<T>(what: &str, step: impl Future<Output = T>) -> T {
    match timeout(WAIT_MAX, step).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("waited {WAIT_MAX:?} for {what}"),
    }
}

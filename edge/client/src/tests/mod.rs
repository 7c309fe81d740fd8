//! The client against a server that follows a script, over pipes and on tokio's paused clock. The
//! clock advances when nothing else can run, so no test takes long.

mod balance;
mod calls;
mod metrics;
mod namespace;
mod ordering;
pub(crate) mod server;
mod snapshot;
mod stm;

use std::time::Duration;
use tokio::time::timeout;

/// How long a step of a test may wait, on the clock of the test. It is longer than all timeouts of
/// the client that the tests reach, so an event that has not happened by then never will.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How long a whole test may take on its clock; it has a few steps of [`WAIT_MAX`] at most.
const TEST_MAX: Duration = Duration::from_secs(3600);

/// Runs a test. A test that waits for ever fails: when all tasks wait, the clock advances to
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

//! The linearizable reads of one worker that wait for their confirmation. Consensus is asked once for
//! many of them: a read joins the group that was sent last, as long as consensus has not begun the
//! round that confirms it. So a read costs neither a message between threads nor an entry in a map
//! while others wait for the same round.
//!
//! Joining late is safe because the index of a round is chosen after [`crate::shared::Shared`] has
//! counted its beginning: a read that sees the old count came before that index was chosen.

use crate::error::Error;
use std::collections::BTreeMap;
use tokio::sync::watch::{Receiver, Sender};

/// The outcome of a group; `None` until its round ends.
type GroupEnd = Option<Result<(), Error>>;

/// The group that reads may join.
#[derive(Debug)]
struct OpenGroup {
    id: u64,
    /// How many rounds had begun when the group was opened.
    begun: u64,
}

/// The groups of a worker's reads.
#[derive(Debug, Default)]
pub(crate) struct SharedReads {
    open: Option<OpenGroup>,
    /// All groups without an outcome, by the id under which consensus knows them.
    waiting: BTreeMap<u64, Sender<GroupEnd>>,
}

impl SharedReads {
    /// Joins the open group; `None` if there is none. `begun` is how many rounds have begun.
    pub(crate) fn join(&self, begun: u64) -> Option<JoinedGroup> {
        let open = self.open.as_ref().filter(|open| open.begun == begun)?;
        self.waiting.get(&open.id).map(|group| JoinedGroup(group.subscribe()))
    }

    /// Opens a group and joins it. Its id is sent to consensus after that.
    pub(crate) fn open(&mut self, id: u64, begun: u64) -> JoinedGroup {
        self.open = Some(OpenGroup { id, begun });
        // Groups whose reads have all ended, for example by their deadline.
        self.waiting.retain(|_, group| group.receiver_count() > 0);
        let group = Sender::default();
        let joined = JoinedGroup(group.subscribe());
        self.waiting.insert(id, group);
        joined
    }

    /// Ends a group; false if the id is not that of one.
    pub(crate) fn end(&mut self, id: u64, outcome: Result<(), Error>) -> bool {
        let Some(group) = self.waiting.remove(&id) else { return false };
        group.send_replace(Some(outcome));
        true
    }
}

/// A read's part in a group. A read that ends early drops it.
#[derive(Debug)]
pub(crate) struct JoinedGroup(Receiver<GroupEnd>);

impl JoinedGroup {
    /// Waits for the end of the round.
    ///
    /// # Errors
    /// That of the round; [`Error::Stopped`] if the worker ends.
    pub(crate) async fn ended(mut self) -> Result<(), Error> {
        match self.0.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            Ok(None) | Err(_) => Err(Error::Stopped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn ended(read: JoinedGroup) -> Poll<Result<(), Error>> {
        pin!(read.ended()).as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_read_joins_the_group_whose_round_has_not_begun_and_no_other() {
        let mut reads = SharedReads::default();
        assert!(reads.join(0).is_none(), "no group is open");
        let first = reads.open(1, 0);
        let second = reads.join(0).expect("no round has begun since");
        assert!(reads.join(1).is_none(), "the index may be chosen");
        let third = reads.open(2, 1);
        assert!(reads.end(1, Ok(())));
        assert_eq!(ended(first), Poll::Ready(Ok(())));
        assert_eq!(ended(second), Poll::Ready(Ok(())));
        assert!(!reads.end(1, Ok(())), "an answer to an old group ends nothing");
        assert!(reads.end(2, Err(Error::TooManyRequests)));
        assert_eq!(ended(third), Poll::Ready(Err(Error::TooManyRequests)));
        assert!(reads.join(1).is_none(), "the group has ended");
    }

    #[test]
    fn a_group_whose_reads_have_all_ended_is_forgotten() {
        let mut reads = SharedReads::default();
        drop(reads.open(1, 0));
        let kept = reads.open(2, 1);
        let _last = reads.open(3, 2);
        assert!(!reads.end(1, Ok(())));
        assert!(reads.end(2, Ok(())));
        assert_eq!(ended(kept), Poll::Ready(Ok(())));
    }
}

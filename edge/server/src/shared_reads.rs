//! The linearizable reads of one worker that wait for confirmation. Consensus confirms all of them
//! together, in rounds: a read that arrives during a round waits for the next one, as in
//! `executor`. So a read needs neither a message between threads nor an entry in a map.

use crate::error::Error;
use tokio::sync::watch::{Receiver, Sender};

/// The outcome of a round; `None` until it ends.
type RoundEnd = Option<Result<(), Error>>;

/// The rounds of a worker's reads.
#[derive(Debug, Default)]
pub(crate) struct SharedReads {
    /// The current round, with the id that consensus knows it by.
    under_way: Option<(u64, Sender<RoundEnd>)>,
    /// The round that follows it.
    next: Sender<RoundEnd>,
}

impl SharedReads {
    /// Adds a read to the next round.
    pub(crate) fn join(&self) -> JoinedRound {
        JoinedRound(self.next.subscribe())
    }

    /// True if reads wait and there is no current round.
    pub(crate) fn is_due(&self) -> bool {
        self.under_way.is_none() && self.next.receiver_count() > 0
    }

    /// Begins the next round with all waiting reads.
    pub(crate) fn begin(&mut self, id: u64) {
        debug_assert!(self.under_way.is_none(), "there is one round at a time");
        self.under_way = Some((id, std::mem::take(&mut self.next)));
    }

    /// Ends the current round, if it has this id.
    pub(crate) fn end(&mut self, id: u64, outcome: Result<(), Error>) -> bool {
        let Some((_, readers)) = self.under_way.take_if(|(known, _)| *known == id) else {
            return false;
        };
        readers.send_replace(Some(outcome));
        true
    }
}

/// A read's participation in a round. A read that ends early drops it.
#[derive(Debug)]
pub(crate) struct JoinedRound(Receiver<RoundEnd>);

impl JoinedRound {
    /// Waits for the end of the round.
    ///
    /// # Errors
    /// The error of the round; [`Error::Stopped`] if the worker ends.
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

    fn ended(read: JoinedRound) -> Poll<Result<(), Error>> {
        pin!(read.ended()).as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn reads_that_come_during_a_round_end_with_the_next_one() {
        let mut reads = SharedReads::default();
        assert!(!reads.is_due(), "nobody waits");
        let first = reads.join();
        assert!(reads.is_due());
        reads.begin(1);
        let (second, third) = (reads.join(), reads.join());
        assert!(!reads.is_due(), "a round is under way");
        assert!(reads.end(1, Ok(())));
        assert_eq!(ended(first), Poll::Ready(Ok(())));
        assert!(reads.is_due());
        reads.begin(2);
        assert!(!reads.end(1, Ok(())), "an answer to an old round ends nothing");
        assert!(reads.end(2, Err(Error::TooManyRequests)));
        for read in [second, third] {
            assert_eq!(ended(read), Poll::Ready(Err(Error::TooManyRequests)));
        }
    }

    #[test]
    fn no_round_is_due_for_reads_that_have_ended() {
        let reads = SharedReads::default();
        drop(reads.join());
        assert!(!reads.is_due());
    }
}

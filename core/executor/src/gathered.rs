//! The proposals that wait for the next round.

use member::Proposal;
use proto::Index;
use raft::Message;

/// The maximum number of bytes of a round, unless its first proposal is longer. A small proposal waits
/// for the writes of the current round and of its own one, so this bounds what large proposals of
/// other clients cost it.
const ROUND_BYTES_MAX: usize = 256 << 10;
/// Proposals up to this size are taken before larger ones if not all fit.
const SMALL_BYTES: usize = 4 << 10;

/// The event that ends the gathering of proposals for the next round.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum GatheringEnd {
    /// There is no current round: a proposal is made at once.
    #[default]
    Now,
    /// The commit of this entry, the last of the leader's round.
    Commit(Index),
    /// The next append of the leader, to which a follower has forwarded its round.
    Append,
}

/// The proposals of the next rounds.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// Proposals of this member.
    own: Vec<Proposal>,
    /// Messages with proposals of other members; only at a leader.
    forwarded: Vec<Message>,
    /// The bytes of all proposals.
    bytes: usize,
    pub(crate) end: GatheringEnd,
    /// The number of rounds so far.
    rounds: u64,
}

impl Gathered {
    pub(crate) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.forwarded.is_empty()
    }

    /// The bytes of all proposals.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of rounds so far.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds
    }

    pub(crate) fn add(&mut self, proposal: Proposal) {
        self.bytes += proposal.data.len();
        self.own.push(proposal);
    }

    pub(crate) fn add_forwarded(&mut self, message: Message) {
        self.bytes += message.body.entry_bytes();
        self.forwarded.push(message);
    }

    /// Begins the next round. Returns its proposals: this member's, and those of other members. Those
    /// beyond [`ROUND_BYTES_MAX`] wait for further rounds; the oldest of each kind is always taken, so
    /// that none waits for ever.
    pub(crate) fn take(&mut self) -> (Vec<Proposal>, Vec<Message>) {
        self.rounds += 1;
        let own_size = |proposal: &Proposal| proposal.data.len();
        let forwarded_size = |message: &Message| message.body.entry_bytes();
        let (own, forwarded) = if self.bytes <= ROUND_BYTES_MAX {
            (std::mem::take(&mut self.own), std::mem::take(&mut self.forwarded))
        } else {
            // Both share the bytes, or a member with many clients would keep the others waiting.
            let max = ROUND_BYTES_MAX / if self.forwarded.is_empty() { 1 } else { 2 };
            let own = take_up_to(&mut self.own, max, own_size);
            let used: usize = own.iter().map(own_size).sum();
            let max = ROUND_BYTES_MAX.saturating_sub(used);
            (own, take_up_to(&mut self.forwarded, max, forwarded_size))
        };
        let taken: usize = own.iter().map(own_size).sum::<usize>()
            + forwarded.iter().map(forwarded_size).sum::<usize>();
        self.bytes -= taken;
        (own, forwarded)
    }
}

/// Removes the first item, and then the small ones and the others, each in order, while `max` bytes
/// are not exceeded. The items that are left stay in order.
fn take_up_to<T>(items: &mut Vec<T>, max: usize, size: impl Fn(&T) -> usize) -> Vec<T> {
    let sizes: Vec<usize> = items.iter().map(size).collect();
    let mut room = max;
    let mut is_taken = vec![false; items.len()];
    let small = (0..sizes.len()).filter(|at| sizes[*at] <= SMALL_BYTES);
    for at in
        std::iter::once(0).chain(small).chain(0..sizes.len()).take_while(|at| *at < sizes.len())
    {
        let fits = at == 0 || sizes[at] <= room;
        if fits && !is_taken[at] {
            is_taken[at] = true;
            room = room.saturating_sub(sizes[at]);
        }
    }
    let mut at = 0;
    let taken = items.extract_if(.., |_| {
        at += 1;
        is_taken[at - 1]
    });
    taken.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    /// Proposals with these sizes; their ids are their places.
    fn gathered(sizes: &[usize]) -> Gathered {
        let mut gathered = Gathered::default();
        for (id, size) in sizes.iter().enumerate() {
            gathered.add(Proposal::request(id as u64, Bytes::from(vec![0; *size])));
        }
        gathered
    }

    fn ids(round: &(Vec<Proposal>, Vec<Message>)) -> Vec<u64> {
        round.0.iter().map(|proposal| proposal.id).collect()
    }

    const LARGE: usize = 100 << 10;

    #[test]
    fn a_round_takes_all_proposals_that_fit() {
        let mut gathered = gathered(&[LARGE, 1, LARGE, 1]);
        assert_eq!(ids(&gathered.take()), [0, 1, 2, 3]);
        assert!(gathered.is_empty());
        assert_eq!((gathered.bytes(), gathered.rounds()), (0, 1));
    }

    #[test]
    fn small_proposals_go_before_large_ones_that_do_not_fit() {
        let mut gathered = gathered(&[LARGE, LARGE, LARGE, LARGE, 1, 1]);
        assert_eq!(ids(&gathered.take()), [0, 1, 4, 5]);
        assert_eq!(ids(&gathered.take()), [2, 3]);
        assert_eq!(gathered.bytes(), 0);
    }

    #[test]
    fn the_oldest_proposal_is_taken_however_long_it_is() {
        let mut gathered = gathered(&[ROUND_BYTES_MAX * 2, SMALL_BYTES, LARGE]);
        assert_eq!(ids(&gathered.take()), [0]);
        assert_eq!(ids(&gathered.take()), [1, 2]);
    }

    #[test]
    fn no_flood_of_small_proposals_keeps_a_large_one_waiting() {
        let mut sizes = vec![SMALL_BYTES; 100];
        sizes.insert(1, LARGE);
        let mut gathered = gathered(&sizes);
        assert!(!ids(&gathered.take()).contains(&1));
        for id in 200..300 {
            gathered.add(Proposal::request(id, Bytes::from(vec![0; SMALL_BYTES])));
        }
        assert!(ids(&gathered.take()).contains(&1));
    }
}

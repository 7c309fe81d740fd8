//! Checks whether a history of concurrent calls is linearizable: whether each call can be assigned
//! a moment between its start and its end so that a sequential object gives the same answers.
//!
//! The search is that of Wing and Gong, with Lowe's cache of visited states. A call without an
//! answer may take effect at any time after its start, or never.
//!
//! Source: J. Wing, C. Gong, *Testing and Verifying Concurrent Objects*, 1993; G. Lowe, *Testing for
//! Linearizability*, 2017.

use random::Random;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher as _};

/// A sequential object.
pub trait Sequential {
    /// Its value.
    type Value: Clone + Hash;
    /// A call with the answer that it got, if it got one.
    type Call;

    /// The value at first.
    fn first(&self) -> Self::Value;

    /// The value after the call; `None` if the object would not have given the recorded answer.
    fn step(&self, value: &Self::Value, call: &Self::Call) -> Option<Self::Value>;
}

/// A call with its time.
#[derive(Clone, Debug)]
pub struct Timed<C> {
    /// When it began.
    pub begun: u64,
    /// When its answer arrived; `None` if it has none.
    pub ended: Option<u64>,
    /// The call.
    pub call: C,
}

/// The result of the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none. Contains the longest order that was found, as positions in the history, and
    /// the positions of the calls of which one had to be next.
    Illegal {
        /// The order.
        longest: Vec<usize>,
        /// The calls that could not follow it.
        stuck: Vec<usize>,
    },
    /// The search took too many steps.
    Undecided,
}

/// The end of a list.
const NONE: usize = usize::MAX;

/// A linked list of calls in the order of their start times. Calls are taken from it and put back.
#[derive(Debug)]
struct Line {
    /// The positions in the history.
    calls: Vec<usize>,
    next: Vec<usize>,
    before: Vec<usize>,
    head: usize,
}

impl Line {
    fn new(calls: Vec<usize>) -> Line {
        let len = calls.len();
        let next = (1..=len).map(|at| if at == len { NONE } else { at }).collect();
        let before = (0..len).map(|at| at.checked_sub(1).unwrap_or(NONE)).collect();
        Line { calls, next, before, head: if len == 0 { NONE } else { 0 } }
    }

    fn take(&mut self, at: usize) {
        let (before, next) = (self.before[at], self.next[at]);
        if before == NONE {
            self.head = next
        } else {
            self.next[before] = next
        }
        if next != NONE {
            self.before[next] = before;
        }
    }

    /// Undoes the last [`Line::take`] that is not undone yet.
    fn put_back(&mut self, at: usize) {
        let (before, next) = (self.before[at], self.next[at]);
        if before == NONE {
            self.head = at
        } else {
            self.next[before] = at
        }
        if next != NONE {
            self.before[next] = at;
        }
    }
}

/// A position in the order in which the calls are tried: first the calls with an answer.
#[derive(Clone, Copy, Debug)]
enum Place {
    Answered(usize),
    Open(usize),
}

struct Search<'a, S: Sequential> {
    object: &'a S,
    history: &'a [Timed<S::Call>],
    answered: Line,
    open: Line,
    /// The ends of the calls with an answer, with their numbers in `answered`, ascending.
    ends: Vec<(u64, usize)>,
    /// How many of `ends` belong to calls that are in the order, from the front on.
    ended: usize,
    /// The place in `ends` of each call of `answered`.
    ranks: Vec<usize>,
    is_taken: Vec<bool>,
    /// A random number for each call. The sum over the calls in the order identifies their set.
    names: Vec<u128>,
}

impl<S: Sequential> Search<'_, S> {
    /// The time by which the next call must have begun.
    fn horizon(&mut self) -> u64 {
        while self.ends.get(self.ended).is_some_and(|(_, at)| self.is_taken[*at]) {
            self.ended += 1;
        }
        self.ends.get(self.ended).map_or(u64::MAX, |(end, _)| *end)
    }

    fn call_at(&self, place: Place) -> usize {
        match place {
            Place::Answered(at) => self.answered.calls[at],
            Place::Open(at) => self.open.calls[at],
        }
    }

    /// The first call to try.
    fn first(&self, horizon: u64) -> Option<Place> {
        self.fit(self.answered.head, horizon)
            .map(Place::Answered)
            .or_else(|| self.first_open(horizon))
    }

    fn first_open(&self, horizon: u64) -> Option<Place> {
        let at = self.open.head;
        let fits = at != NONE && self.history[self.open.calls[at]].begun <= horizon;
        fits.then_some(Place::Open(at))
    }

    fn fit(&self, at: usize, horizon: u64) -> Option<usize> {
        (at != NONE && self.history[self.answered.calls[at]].begun <= horizon).then_some(at)
    }

    /// The call to try after this one.
    fn after(&self, place: Place, horizon: u64) -> Option<Place> {
        match place {
            Place::Answered(at) => self
                .fit(self.answered.next[at], horizon)
                .map(Place::Answered)
                .or_else(|| self.first_open(horizon)),
            Place::Open(at) => {
                let at = self.open.next[at];
                let fits = at != NONE && self.history[self.open.calls[at]].begun <= horizon;
                fits.then_some(Place::Open(at))
            }
        }
    }

    fn take(&mut self, place: Place) {
        match place {
            Place::Answered(at) => {
                self.answered.take(at);
                self.is_taken[at] = true;
            }
            Place::Open(at) => self.open.take(at),
        }
    }

    fn put_back(&mut self, place: Place) {
        match place {
            Place::Answered(at) => {
                self.answered.put_back(at);
                self.is_taken[at] = false;
                // The end of this call may bound the next one again.
                self.ended = self.ended.min(self.ranks[at]);
            }
            Place::Open(at) => self.open.put_back(at),
        }
    }

    /// The calls of which one had to be next.
    fn candidates(&mut self) -> Vec<usize> {
        let horizon = self.horizon();
        let mut candidates = Vec::new();
        let mut place = self.first(horizon);
        while let Some(at) = place {
            candidates.push(self.call_at(at));
            place = self.after(at, horizon);
        }
        candidates
    }

    fn run(mut self, steps_max: u64) -> Verdict {
        let mut value = self.object.first();
        let mut order: Vec<(Place, S::Value)> = Vec::new();
        let mut set = 0u128;
        let mut tried: HashSet<(u128, u64)> = HashSet::new();
        let mut left = self.ends.len();
        let mut furthest = (usize::MAX, Vec::new(), Vec::new());
        let mut steps = 0;
        let mut horizon = self.horizon();
        let mut place = self.first(horizon);
        while left > 0 {
            steps += 1;
            if steps > steps_max {
                return Verdict::Undecided;
            }
            let Some(at) = place else {
                if left < furthest.0 {
                    let longest = order.iter().map(|(at, _)| self.call_at(*at)).collect();
                    furthest = (left, longest, self.candidates());
                }
                let Some((at, before)) = order.pop() else {
                    let (_, longest, stuck) = furthest;
                    return Verdict::Illegal { longest, stuck };
                };
                self.put_back(at);
                set = set.wrapping_sub(self.names[self.call_at(at)]);
                left += usize::from(matches!(at, Place::Answered(_)));
                value = before;
                horizon = self.horizon();
                place = self.after(at, horizon);
                continue;
            };
            let call = self.call_at(at);
            let next = self.object.step(&value, &self.history[call].call);
            let with = set.wrapping_add(self.names[call]);
            match next.filter(|next| tried.insert((with, fingerprint(next)))) {
                None => place = self.after(at, horizon),
                Some(next) => {
                    self.take(at);
                    order.push((at, std::mem::replace(&mut value, next)));
                    set = with;
                    left -= usize::from(matches!(at, Place::Answered(_)));
                    horizon = self.horizon();
                    place = self.first(horizon);
                }
            }
        }
        Verdict::Linearizable
    }
}

fn fingerprint(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Searches for an order, in at most `steps_max` steps.
///
/// Visited states (a set of calls and a value) are remembered by hashes of 128 and 64 bits. For a
/// history that fits into memory, the probability of a collision is less than one in 2^60. It could
/// make a linearizable history seem illegal, but never the reverse.
pub fn search<S: Sequential>(object: &S, history: &[Timed<S::Call>], steps_max: u64) -> Verdict {
    let mut places: Vec<usize> = (0..history.len()).collect();
    places.sort_by_key(|place| (history[*place].begun, *place));
    let (answered, open): (Vec<usize>, Vec<usize>) =
        places.into_iter().partition(|place| history[*place].ended.is_some());
    let mut ends: Vec<(u64, usize)> = answered
        .iter()
        .enumerate()
        .filter_map(|(at, place)| history[*place].ended.map(|end| (end, at)))
        .collect();
    ends.sort_unstable();
    let mut ranks = vec![0; ends.len()];
    for (rank, (_, at)) in ends.iter().enumerate() {
        ranks[*at] = rank;
    }
    let mut random = Random::new(0x6c69_6e65);
    let mut name = || (u128::from(random.draw()) << 64) | u128::from(random.draw());
    let search = Search {
        object,
        history,
        is_taken: vec![false; answered.len()],
        answered: Line::new(answered),
        open: Line::new(open),
        ends,
        ended: 0,
        ranks,
        names: history.iter().map(|_| name()).collect(),
    };
    search.run(steps_max)
}

//! The endpoints of a gateway, and which of them the next connection goes to.
//!
//! - Only active endpoints with the lowest priority among the active ones are chosen.
//! - If some of them have a weight, one of those is drawn by its share. As in RFC 2782, those without
//!   a weight then get few connections: one of a hundred.
//! - Without weights they take turns.
//!
//! Source: etcd server/proxy/tcpproxy/userspace.go `pick` @ v3.7.1.

/// One of so many connections goes to endpoints without a weight, if others have one.
const UNWEIGHTED_SHARE: u32 = 100;

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// `host:port`, with the brackets of an IPv6 address.
    pub address: String,
    /// Endpoints with the lowest one are used first.
    pub priority: u16,
    /// Its share of the connections among those of one priority; 0 if it has none.
    pub weight: u16,
}

/// An endpoint with its state.
#[derive(Debug)]
struct Listed {
    remote: Remote,
    is_active: bool,
}

/// The endpoints with their states.
#[derive(Debug)]
pub(crate) struct Remotes {
    entries: Vec<Listed>,
    /// Counts the turns of endpoints without a weight.
    turn: usize,
}

impl Remotes {
    /// All of them are active.
    pub(crate) fn new(remotes: Vec<Remote>) -> Remotes {
        let entries = remotes.into_iter().map(|remote| Listed { remote, is_active: true });
        Remotes { entries: entries.collect(), turn: 0 }
    }

    /// The endpoint of the next connection, by its place; `None` if none is active. `random` draws a
    /// number from 1 to its argument.
    pub(crate) fn pick(&mut self, mut random: impl FnMut(u32) -> u32) -> Option<usize> {
        let active = || self.entries.iter().enumerate().filter(|(_, entry)| entry.is_active);
        let best = active().map(|(_, entry)| entry.remote.priority).min()?;
        let rivals = active().filter(|(_, entry)| entry.remote.priority == best);
        let (weighted, unweighted): (Vec<_>, Vec<_>) = rivals
            .map(|(place, entry)| (place, u32::from(entry.remote.weight)))
            .partition(|(_, weight)| *weight > 0);
        let is_for_unweighted = !unweighted.is_empty()
            && (weighted.is_empty() || random(UNWEIGHTED_SHARE) == UNWEIGHTED_SHARE);
        if is_for_unweighted {
            let (place, _) = unweighted[self.turn % unweighted.len()];
            self.turn = self.turn.wrapping_add(1);
            return Some(place);
        }
        let drawn = random(weighted.iter().map(|(_, weight)| weight).sum());
        let mut sum = 0;
        let reaches = |(_, weight): &&(usize, u32)| {
            sum += weight;
            sum >= drawn
        };
        weighted.iter().find(reaches).or_else(|| weighted.last()).map(|(place, _)| *place)
    }

    /// The address of an endpoint.
    pub(crate) fn address(&self, place: usize) -> &str {
        &self.entries[place].remote.address
    }

    /// The addresses of all endpoints.
    pub(crate) fn addresses(&self) -> Vec<&str> {
        self.entries.iter().map(|entry| &*entry.remote.address).collect()
    }

    /// Leaves an endpoint out, or takes it in again.
    pub(crate) fn set_active(&mut self, place: usize, is_active: bool) {
        self.entries[place].is_active = is_active;
    }

    /// The endpoints that are left out.
    pub(crate) fn inactive(&self) -> Vec<usize> {
        let places = 0..self.entries.len();
        places.filter(|place| !self.entries[*place].is_active).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Endpoints of these priorities and weights.
    fn remotes(rows: &[(u16, u16)]) -> Remotes {
        let remote = |(priority, weight): &(u16, u16)| Remote {
            address: String::new(),
            priority: *priority,
            weight: *weight,
        };
        Remotes::new(rows.iter().map(remote).collect())
    }

    #[test]
    fn endpoints_without_weights_take_turns() {
        let mut remotes = remotes(&[(1, 0), (1, 0), (1, 0)]);
        let mut picked = || (0..4).map(|_| remotes.pick(|_| 1)).collect::<Vec<_>>();
        assert_eq!(picked(), [Some(0), Some(1), Some(2), Some(0)]);
        remotes.set_active(0, false);
        let picked: Vec<_> = (0..4).map(|_| remotes.pick(|_| 1)).collect();
        assert_eq!(picked, [Some(1), Some(2), Some(1), Some(2)]);
    }

    #[test]
    fn the_lowest_priority_that_is_active_is_used() {
        let mut remotes = remotes(&[(2, 0), (1, 0), (3, 9)]);
        for (picked, inactive) in [(1, vec![1]), (0, vec![0, 1]), (2, vec![0, 1, 2])] {
            assert_eq!(remotes.pick(|_| 1), Some(picked));
            remotes.set_active(picked, false);
            assert_eq!(remotes.inactive(), inactive);
        }
        assert_eq!(remotes.pick(|_| 1), None);
        remotes.set_active(2, true);
        assert_eq!(remotes.pick(|_| 1), Some(2));
    }

    #[test]
    fn weights_are_shares_of_the_connections() {
        let mut remotes = remotes(&[(1, 1), (1, 3), (2, 9)]);
        let picked: Vec<_> = (1..=4)
            .map(|drawn| {
                let random = |sum| {
                    assert_eq!(sum, 4, "the weights of the lowest priority");
                    drawn
                };
                remotes.pick(random)
            })
            .collect();
        assert_eq!(picked, [Some(0), Some(1), Some(1), Some(1)]);
    }

    #[test]
    fn endpoints_without_a_weight_among_others_get_one_of_a_hundred() {
        let mut remotes = remotes(&[(1, 5), (1, 0)]);
        assert_eq!(remotes.pick(|max| max), Some(1), "the last of a hundred");
        assert_eq!(remotes.pick(|max| max - 1), Some(0));
    }
}

//! The network between members: each direction of each pair is a link of its own, which delays,
//! loses, repeats and reorders messages, or lets none through.

use super::clock::MS;
use random::Random;

/// The state of a link.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Link {
    /// The number of active faults that block it.
    pub(crate) cuts: u32,
    /// How many of 256 messages are lost.
    pub(crate) loss: u64,
    /// How many of 256 messages arrive twice.
    pub(crate) repeats: u64,
    /// How many of 256 messages are overtaken by later ones.
    pub(crate) overtaken: u64,
    /// The additional delay of messages.
    pub(crate) delay: u64,
    /// When it last lost a message.
    pub(crate) failed: u64,
    /// The arrival time of the last message that was sent in order.
    last_arrival: u64,
}

/// Counts of messages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) sent: u64,
    pub(crate) cut: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) overtaken: u64,
    pub(crate) delayed: u64,
}

/// When copies of a message arrive.
pub(crate) type Arrivals = [Option<u64>; 2];

/// The network.
#[derive(Debug)]
pub(crate) struct Network {
    links: Vec<Link>,
    size: usize,
    random: Random,
    /// The shortest time of a message, and how much longer it may take.
    latency: (u64, u64),
    pub(crate) traffic: Traffic,
}

impl Network {
    /// A network of `size` members without faults.
    pub(crate) fn new(size: usize, mut random: Random) -> Network {
        // From members on one machine to members in three data centres.
        let base = [30, 150, 500, 3 * MS][random.index(4)];
        let latency = (base, base / 2 + random.below(base));
        let links = vec![Link::default(); size * size];
        Network { links, size, random, latency, traffic: Traffic::default() }
    }

    /// The link from one member to another.
    pub(crate) fn link(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from * self.size + to]
    }

    /// Since when two members have reached each other; `None` while they do not.
    pub(crate) fn connected_since(&self, one: usize, other: usize) -> Option<u64> {
        let links = [&self.links[one * self.size + other], &self.links[other * self.size + one]];
        let is_well = links.iter().all(|link| link.cuts == 0);
        is_well.then(|| links.iter().map(|link| link.failed).max().unwrap_or(0))
    }

    /// Removes the faults of all links.
    pub(crate) fn heal(&mut self) {
        for link in &mut self.links {
            let Link { last_arrival, failed, .. } = *link;
            *link = Link { last_arrival, failed, ..Link::default() };
        }
    }

    /// The arrival times of a message that is sent now. A message that must not take effect twice,
    /// such as a forwarded proposal, is not repeated: raft relies on TCP for that.
    pub(crate) fn send(
        &mut self,
        (from, to): (usize, usize),
        now: u64,
        may_repeat: bool,
    ) -> Arrivals {
        let Network { links, size, random, latency, traffic } = self;
        let link = &mut links[from * *size + to];
        traffic.sent += 1;
        if link.cuts > 0 {
            traffic.cut += 1;
            link.failed = now;
            return [None, None];
        }
        if random.chance(link.loss) {
            traffic.lost += 1;
            return [None, None];
        }
        let mut arrival = now + latency.0 + random.below(latency.1);
        if link.delay > 0 {
            traffic.delayed += 1;
            arrival += link.delay / 2 + random.below(link.delay);
        }
        if random.chance(link.overtaken) {
            traffic.overtaken += 1;
            arrival += random.below(20 * (latency.0 + latency.1));
        } else {
            arrival = arrival.max(link.last_arrival);
            link.last_arrival = arrival;
        }
        let repeats = may_repeat && random.chance(link.repeats);
        traffic.repeated += u64::from(repeats);
        let again = repeats.then(|| arrival + random.below(50 * (latency.0 + latency.1)));
        [Some(arrival), again]
    }

    /// The time of a message between a client and a member.
    pub(crate) fn client_latency(&mut self) -> u64 {
        self.latency.0 + self.random.below(self.latency.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        Network::new(3, Random::new(7))
    }

    #[test]
    fn a_link_that_is_well_keeps_the_order_and_loses_nothing() {
        let mut network = network();
        let mut last = 0;
        for now in 0..2_000 {
            let [Some(arrival), None] = network.send((0, 1), now, true) else { panic!("{now}") };
            assert!(arrival >= last);
            last = arrival;
        }
    }

    #[test]
    fn a_cut_is_of_one_direction() {
        let mut network = network();
        network.link(0, 1).cuts += 1;
        assert_eq!(network.send((0, 1), 0, true), [None, None]);
        assert!(network.send((1, 0), 0, true)[0].is_some());
        network.heal();
        assert!(network.send((0, 1), 0, true)[0].is_some());
        assert_eq!((network.traffic.sent, network.traffic.cut), (3, 1));
    }

    #[test]
    fn an_ill_link_loses_repeats_and_reorders() {
        let mut network = network();
        *network.link(0, 1) =
            Link { loss: 40, repeats: 40, overtaken: 40, delay: 9, ..Link::default() };
        for now in 0..2_000 {
            network.send((0, 1), now, true);
        }
        let Traffic { lost, repeated, overtaken, delayed, .. } = network.traffic;
        assert!([lost, repeated, overtaken].iter().all(|count| (150..450).contains(count)));
        assert_eq!(delayed, 2_000 - lost);
        let repeated = network.traffic.repeated;
        for now in 0..2_000 {
            network.send((0, 1), now, false);
        }
        assert_eq!(network.traffic.repeated, repeated, "forwarded proposals are not repeated");
    }
}

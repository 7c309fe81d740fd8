//! A cluster of real processes under load and faults.
//!
//! | module | does |
//! |---|---|
//! | `network` | the connections between the members, which can be cut |
//! | `group` | the three members |
//! | `probe` | single writes that show whether the cluster serves |
//! | `record` | the calls of the clients and their answers |
//! | `load` | clients that write and read |
//! | `watchers` | watchers that resume after each loss of their member |
//! | `nemesis` | seeded faults, one at a time |
//! | `leases` | leases that are renewed through each member, and one that is not |
//! | `checks` | the checks at the end of a run |
//! | `ended` | the end of a run: clients and watchers stop, and everything is checked |
//! | `faults`, `replace`, `failover`, `catch_up` | the modes of the program |

pub mod catch_up;
mod checks;
mod ended;
pub mod failover;
pub mod faults;
mod group;
mod leases;
mod load;
mod nemesis;
mod network;
mod probe;
mod record;
pub mod replace;
mod watchers;

pub use group::{MEMBERS, Plan};

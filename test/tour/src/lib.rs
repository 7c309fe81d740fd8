//! The tour: what a user does with `etcdctl` and `etcdutl`, as scripts, run with real programs
//! against real servers. What they print is written down without what changes from run to run
//! (ids of leases, ports, times, sizes, raft indexes, versions) and then compared: one client
//! with two servers, two clients with one server, or ours with what etcd 3.7.1 printed
//! (`transcripts/`). Nothing in the product depends on this crate.

pub mod compare;
pub mod guide;
pub mod normal;
pub mod process;
pub mod script;
pub mod server;
pub mod table;
pub mod wire;

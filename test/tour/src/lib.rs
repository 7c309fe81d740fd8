//! The tour: scripts that use `etcdctl` and `etcdutl` as a user does, run with real programs
//! against real servers. What changes from run to run (lease ids, ports, times, sizes, raft
//! indexes, versions) is masked in the output. The rest is compared: one client with two servers,
//! two clients with one server, or our programs with the recorded output of etcd 3.7.1
//! (`transcripts/`). The product does not depend on this crate.

pub mod compare;
pub mod guide;
pub mod normal;
pub mod process;
pub mod script;
pub mod server;
pub mod table;
pub mod wire;

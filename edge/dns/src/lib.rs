//! dns: SRV records, which name the servers of a cluster: the question to the name servers of
//! `/etc/resolv.conf`, and the order and the URLs of the answers.
//!
//! | record | names |
//! |---|---|
//! | `_etcd-server-ssl._tcp.DOMAIN`, `_etcd-server._tcp.DOMAIN` | the members, by their peer URLs |
//! | `_etcd-client-ssl._tcp.DOMAIN`, `_etcd-client._tcp.DOMAIN` | the members, by their client URLs |
//!
//! The calls block, with a time limit for each question. Not here: the addresses of hosts, which the
//! standard library looks up, and what is done with the servers.
//!
//! Source: RFC 1035, RFC 2782; etcd client/pkg/srv @ v3.7.1; Go's net package (`LookupSRV`).

mod message;
mod resolver;
mod service;
mod system;

pub use message::SrvRecord;
pub use resolver::{LookupError, Resolver};
pub use service::{ClientEndpoint, client_endpoints, service_name};

#[cfg(test)]
mod tests;

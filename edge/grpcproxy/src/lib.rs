//! grpcproxy: the gRPC proxy of `etcd grpc-proxy start`. It serves etcd's gRPC API to clients, and
//! passes their calls on to the servers of a cluster with the client's token.
//!
//! | module | what it does |
//! |---|---|
//! | `proxy` | the thread, its ports and their connections |
//! | `service`, `shared` | the dispatch of one request, and the state of all connections |
//! | `call`, `upstream` | a call of a client, and calls to the servers on its behalf |
//! | `forward` | calls that are passed on byte by byte: Lease, Cluster, Maintenance, Auth, Lock, Election |
//! | `kv`, `layers`, `cache` | keys: the prefix, the order and the cache of reads |
//! | `watch`, `watches`, `coalesce` | watches, many of which share one at a server |
//! | `cluster`, `registry` | the list of members, which shows the proxies instead of the servers |
//! | `leader` | whether the cluster has a leader |
//! | `http` | health and metrics |
//!
//! The connections of clients are served by `connection`, as those of a member are; the calls of a
//! member's services (`api`) end in its own store, so they are not used here. The servers are reached
//! through `client`, which balances, retries, and resumes watches.
//!
//! All of it runs on one thread, so that its state needs no locks.
//!
//! Not here: the command line and the files of TLS (`embed::grpc_proxy`).
//!
//! Source: etcd server/etcdmain/grpc_proxy.go and server/proxy/grpcproxy @ v3.7.1.

mod cache;
mod call;
mod cluster;
mod coalesce;
mod forward;
mod http;
mod kv;
mod layers;
mod leader;
mod options;
mod proxy;
mod registry;
mod service;
mod shared;
mod upstream;
mod watch;
mod watches;

pub use options::{Options, Profiles, Registration, Traffic};
pub use proxy::{GrpcProxy, Port, recover_order};

//! Real, unchanged client libraries in programs that do the same steps against our server and
//! against Go's etcd, and print a line for each step.
//!
//! - `list`: the clients and their versions.
//! - `prepare`: installs a client from its package registry into a directory outside the
//!   repository, at the versions that the repository pins.
//! - `relay`: a relay between client and server that can be cut, on TCP and on a unix socket.
//! - `session`: one client against one server, with the faults that the client asks for.
//! - `compare`: the lines of both servers, and the differences that are expected.
//!
//! Not here: the steps. They are in the programs in `go/`, `python/`, `node/` and `java/`.

pub mod compare;
pub mod list;
pub mod prepare;
pub mod relay;
pub mod session;

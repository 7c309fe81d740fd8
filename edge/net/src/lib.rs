//! net: URLs, listening sockets, the limits of connections, and the small HTTP endpoints that every
//! port shares.
//!
//! Not here: gRPC (`rpc`, `api`), what the endpoints say (the caller's
//! [`endpoints::StatusSource`]), and TLS, which is not built yet: its place is between
//! [`listen::Acceptor`] and the worker.

pub mod endpoints;
pub mod limits;
pub mod listen;
pub mod plain;
pub mod seats;
pub mod tasks;
pub mod timed;
pub mod url;

pub use listen::{Acceptor, BindError, Listener, SocketOptions};
pub use seats::{Seat, SeatInUse, Seats};
pub use timed::TimedStream;
pub use url::{Scheme, Url, UrlError};

//! net: URLs, listening sockets, TLS, the limits of connections, and the small HTTP endpoints that
//! every port shares.
//!
//! A connection comes from an [`Acceptor`], takes a [`Seat`], and is opened with the
//! [`tls::Security`] of its listener by the task that serves it.
//!
//! Not here: gRPC (`rpc`, `api`), and the state that the endpoints report (the caller's
//! [`endpoints::StatusSource`]).

pub mod endpoints;
pub mod limits;
pub mod listen;
pub mod plain;
mod reload;
pub mod seats;
pub mod socket;
mod socket_file;
pub mod tasks;
pub mod timed;
pub mod tls;
pub mod url;

pub use listen::{Acceptor, BindError, Listener, SocketOptions};
pub use reload::{FileKind, Reloaded, system_words};
pub use seats::{Seat, SeatInUse, Seats};
pub use socket::{AcceptedSocket, RemoteName, SocketStream};
pub use timed::TimedStream;
pub use url::{Scheme, Url, UrlError};

//! HTTP/2 for servers, as a state machine without I/O.
//!
//! [`Connection::receive`] takes bytes of the client and returns the next [`ClientEvent`]. The
//! caller responds with [`Connection::send_head`], [`Connection::send_data`] and
//! [`Connection::send_end`], and writes [`Connection::unsent`] to the socket. Time is an argument.
//!
//! - **Invariant:** no input makes it panic, and no memory is allocated for a length that is only
//!   announced.
//! - **Invariant:** a response is written no faster than the client's windows and the socket allow;
//!   [`Connection::next_with_room`] decides whose turn it is.
//! - **Invariant:** data that was received and not yet taken is never more than the windows.
//!
//! Not here: sockets and time limits (`edge/connection`), gRPC (`edge/rpc`), the client's side, server
//! push (never sent), priorities (ignored, as RFC 9113 §5.3.2 allows).
//!
//! Source: RFC 9113, RFC 7541.

mod connection;
mod field;
mod frame;
mod head;
mod hpack;
mod limits;
mod stream;

pub use connection::{ClientEvent, Connection, ConnectionFault, FramesRead, RefusedRequest};
pub use field::Field;
pub use frame::Reason;
pub use head::Head;
pub use limits::{BLOCK_MAX, Limits, PERIOD_MS, RESETS_MAX, USELESS_MAX};
pub use stream::{End, StreamKey};

/// The first bytes of an HTTP/2 connection (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

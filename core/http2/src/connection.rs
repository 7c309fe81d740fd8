//! The state machine of one connection.

mod receive;
mod send;
mod settings;
mod state;

pub use state::{ClientEvent, Connection, ConnectionFault, FramesRead, RefusedRequest};

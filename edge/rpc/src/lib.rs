//! What client and server share of gRPC, and the server's own framing: the generated stubs, the one
//! table of error strings, messages on HTTP/2 streams, and bodies that are made while they are
//! sent. Not here: which service answers what (see `api`).

pub mod body;
pub mod error;
pub mod frame;
pub mod queue;
pub mod segments;
pub mod status;
pub mod stubs;

pub use error::Error;
pub use segments::Segments;
pub use status::Status;
pub use tonic::Code;

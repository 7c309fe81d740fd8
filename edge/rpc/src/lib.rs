//! gRPC for client and server: the generated stubs, the table of etcd's errors, message framing,
//! and the server's response bodies. Not here: the services (see `api`).

pub mod body;
pub mod call;
pub mod compressed;
pub mod error;
pub mod frame;
pub mod gzip;
pub mod queue;
pub mod segments;
pub mod status;
pub mod stubs;

pub use error::Error;
pub use segments::Segments;
pub use status::Status;
pub use tonic::Code;

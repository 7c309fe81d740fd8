//! What client and server share of gRPC: the generated stubs.

pub mod stubs;

//! The client against a server that follows a script, over pipes and on a clock that tokio drives:
//! a test waits for nothing that does not happen.

mod balance;
mod calls;
pub(crate) mod server;

//! The loops of the threads: each gives one machine its inputs, the time, and somewhere to send its
//! messages.

pub(crate) mod apply;
pub(crate) mod backend;
pub(crate) mod consensus;
pub(crate) mod log;
mod route;
pub(crate) mod worker;

//! The loops of the threads. Each passes inputs and the time to one machine, and delivers its
//! messages.

pub(crate) mod apply;
pub(crate) mod backend;
pub(crate) mod consensus;
pub(crate) mod log;
mod route;
pub(crate) mod worker;

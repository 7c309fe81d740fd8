//! A command line in the manner of cobra and pflag, which etcd's tools are known by: commands
//! that may be shortened, flags anywhere, the same error texts and layout of help; and the output
//! of Go's formatting: quoted strings, durations, sizes, JSON of structs, boxed tables, zap's log
//! lines. All of it is pure: text in, text out. Not here: the commands themselves, and printing.

mod command;
mod flags;
pub mod go;
mod help;
pub mod json;
pub mod log;
mod parse;
mod table;

pub use command::{Command, Flag, Kind};
pub use flags::{Environment, Flags};
pub use help::{flag_usages, help, usage};
pub use parse::{Invocation, Parsed, Words, parse, parse_flags};
pub use table::table;

#[cfg(test)]
mod tests;

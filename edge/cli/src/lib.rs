//! Command lines as cobra and pflag parse them (abbreviated commands, flags anywhere, the same
//! errors and layout of help), and values as Go formats them: quoted strings, durations, sizes,
//! JSON of structs, boxed tables, zap's log lines. Pure functions from text to text. Not here: the
//! commands of the tools, and printing.

mod command;
pub mod duration;
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

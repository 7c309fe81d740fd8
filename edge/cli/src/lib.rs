//! Command lines as cobra and pflag parse them (abbreviated commands, flags anywhere, the same
//! errors and layout of help), and values as Go formats them: quoted strings, durations, sizes,
//! JSON of structs, boxed tables, zap's log lines. Also the completion of command lines in shells,
//! and the scripts for it. Pure functions from text to text. Not here: the commands of the tools,
//! and printing.

mod command;
mod complete;
pub mod duration;
mod flags;
mod format;
pub mod go;
mod help;
pub mod json;
pub mod log;
mod parse;
mod shell;
mod table;

pub use command::{Arguments, Command, Flag, Kind, Offer};
pub use complete::{Completion, completion};
pub use flags::{Environment, Flags};
pub use format::Format;
pub use help::{flag_usages, help, missing, usage};
pub use parse::{Invocation, Parsed, Words, parse, parse_flags};
pub use shell::{NO_DESCRIPTIONS, SHELLS, completion_script};
pub use table::table;

#[cfg(test)]
mod tests;

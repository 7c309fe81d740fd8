//! The command line, in Go's syntax: `-x v`, `--x v`, `-x=v`, `--x=v`; a boolean takes a value
//! only after `=`; the first word that is not a flag ends the flags.
//!
//! Source: the documentation of Go's `flag` package.

use crate::flags::{self, Flag};
use crate::old;
use crate::settings::Settings;
use crate::value::{Kind, Value};

/// A parsed command line.
#[derive(Debug)]
pub enum Parsed {
    /// The flags, and the first argument that is not a flag.
    Flags(Box<Settings>, Option<String>),
    /// `-h` or `--help`.
    Help,
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// Go's message; the program prints it with the usage and exits with 2.
pub fn parse(arguments: &[String]) -> Result<Parsed, String> {
    let mut settings = Settings::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let name = match argument.strip_prefix('-') {
            None | Some("") => {
                return Ok(Parsed::Flags(Box::new(settings), Some(argument.clone())));
            }
            // `--` alone ends the flags and is dropped.
            Some("-") => {
                return Ok(Parsed::Flags(Box::new(settings), rest.next().cloned()));
            }
            Some(name) => name.strip_prefix('-').unwrap_or(name),
        };
        if name.is_empty() || name.starts_with(['-', '=']) {
            return Err(format!("bad flag syntax: {argument}"));
        }
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        if flags::IGNORED.contains(&name) {
            // An ignored flag has a value, which is ignored too.
            if value.is_none() && rest.next().is_none() {
                return Err(format!("flag needs an argument: -{name}"));
            }
            continue;
        }
        let Some(flag) = old::find(name) else {
            return match name {
                "h" | "help" => Ok(Parsed::Help),
                _ => Err(format!("flag provided but not defined: -{name}")),
            };
        };
        let value = read(flag, value, || rest.next().cloned())?;
        settings.set(flag, value);
    }
    Ok(Parsed::Flags(Box::new(settings), None))
}

fn read(
    flag: &Flag,
    value: Option<String>,
    next: impl FnOnce() -> Option<String>,
) -> Result<Value, String> {
    let name = flag.name;
    if flag.kind == Kind::Bool {
        let Some(value) = value else { return Ok(Value::Bool(true)) };
        let parsed = flag.kind.parse(&value);
        return parsed.map_err(|e| format!("invalid boolean value {value:?} for -{name}: {e}"));
    }
    let Some(value) = value.or_else(next) else {
        return Err(format!("flag needs an argument: -{name}"));
    };
    flag.kind.parse(&value).map_err(|e| format!("invalid value {value:?} for flag -{name}: {e}"))
}

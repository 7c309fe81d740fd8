//! The argument of a command, and the flag `--write-out`.

use crate::failure::{Code, CommandResult};
use cli::{Format, Parsed};

/// The one argument of a command, as text.
pub(crate) fn one_argument(parsed: &Parsed) -> CommandResult<String> {
    match &parsed.args[..] {
        [path] => Ok(String::from_utf8_lossy(path).into_owned()),
        _ => {
            let text = format!("{} requires exactly one argument", parsed.name());
            Err(Code::BadArgs.with(text))
        }
    }
}

/// The value of `--write-out`.
pub(crate) fn format(parsed: &Parsed) -> CommandResult<Format> {
    let format = Format::parse(&parsed.flags.text("write-out"));
    format.ok_or_else(|| Code::BadFeature.with("unsupported output format"))
}

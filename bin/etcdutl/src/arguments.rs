//! The arguments of commands.

use crate::failure::{Code, CommandResult};
use cli::Parsed;

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

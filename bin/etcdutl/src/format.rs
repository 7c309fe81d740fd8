//! The output formats.

use crate::failure::{Code, CommandResult};
use cli::Flags;

/// The value of `--write-out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Simple,
    Fields,
    Json,
    Protobuf,
    Table,
}

impl Format {
    /// The names, as a shell offers them.
    pub(crate) const NAMES: &[&str] = &["fields", "json", "protobuf", "simple", "table"];

    /// Reads the flag.
    ///
    /// # Errors
    /// When it has another value.
    pub(crate) fn of(flags: &Flags) -> CommandResult<Format> {
        match flags.text("write-out").as_str() {
            "simple" => Ok(Format::Simple),
            "fields" => Ok(Format::Fields),
            "json" => Ok(Format::Json),
            "protobuf" => Ok(Format::Protobuf),
            "table" => Ok(Format::Table),
            _ => Err(Code::BadFeature.with("unsupported output format")),
        }
    }
}

//! The formats of `--write-out`.

use crate::failure::{Code, CommandResult};

/// The formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Short text, the default.
    Simple,
    /// `"Name" : value` lines.
    Fields,
    /// JSON, as Go writes the struct of the response.
    Json,
    /// The encoded response.
    Protobuf,
    /// Tables, for lists of members and endpoints only.
    Table,
}

impl Format {
    /// # Errors
    /// When there is no such format.
    pub(crate) fn parse(name: &str) -> CommandResult<Format> {
        match name {
            "simple" => Ok(Format::Simple),
            "fields" => Ok(Format::Fields),
            "json" => Ok(Format::Json),
            "protobuf" => Ok(Format::Protobuf),
            "table" => Ok(Format::Table),
            _ => Err(Code::BadFeature.with("unsupported output format")),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Format::Simple => "simple",
            Format::Fields => "fields",
            Format::Json => "json",
            Format::Protobuf => "protobuf",
            Format::Table => "table",
        }
    }
}

/// How responses are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    /// The format.
    pub(crate) format: Format,
    /// Keys, values and ids in hexadecimal, where the format has a way to.
    pub(crate) hex: bool,
    /// Of a key-value, the value only; for the simple format.
    pub(crate) value_only: bool,
}

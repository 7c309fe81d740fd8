//! The formats of `--write-out`.

/// A format in which the tools print responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Short text, the default.
    Simple,
    /// `"Name" : value` lines.
    Fields,
    /// JSON, as Go writes the struct.
    Json,
    /// The encoded message.
    Protobuf,
    /// Tables, for the responses that have rows.
    Table,
}

impl Format {
    /// The names, as a shell offers them.
    pub const NAMES: &'static [&'static str] = &["fields", "json", "protobuf", "simple", "table"];

    /// The format of this name; `None` if there is none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Format> {
        use Format::{Fields, Json, Protobuf, Simple, Table};
        [Simple, Fields, Json, Protobuf, Table].into_iter().find(|format| format.name() == name)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Format::Simple => "simple",
            Format::Fields => "fields",
            Format::Json => "json",
            Format::Protobuf => "protobuf",
            Format::Table => "table",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_offered_is_that_of_a_format() {
        for name in Format::NAMES {
            assert_eq!(Format::parse(name).map(Format::name), Some(*name));
        }
        assert_eq!(Format::parse("yaml"), None);
    }
}

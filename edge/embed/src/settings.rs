//! The values of all flags: those that were given, from any source, and the defaults.

use crate::flags::{self, Flag};
use crate::value::Value;
use cli::duration::GoDuration;
use net::Url;
use std::collections::BTreeMap;

/// A log line that is recorded before the log is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// `info`, `warn`, `error` or `fatal`.
    pub level: &'static str,
    /// The message.
    pub message: String,
    /// Fields, in order.
    pub fields: Vec<(&'static str, String)>,
}

impl Notice {
    /// A notice with its fields.
    pub fn new(
        level: &'static str,
        message: &str,
        fields: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        Self { level, message: message.to_owned(), fields: fields.into_iter().collect() }
    }
}

/// The values of all flags. A flag that was not given has its default.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    given: BTreeMap<&'static str, Value>,
    /// The configuration file that the values come from, if any.
    pub file: Option<String>,
    /// Lines to log once the log is open, in order.
    pub notices: Vec<Notice>,
}

impl Settings {
    /// No values yet; they will come from this file.
    pub fn of_file(path: &str) -> Self {
        Self { file: Some(path.to_owned()), ..Self::default() }
    }

    /// Stores a value.
    pub fn set(&mut self, flag: &'static Flag, value: Value) {
        self.given.insert(flag.name, value);
    }

    /// Removes the value of a flag that was given.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.given.remove(name)
    }

    /// Whether the flag was given.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The flags that were given with another value than their default.
    pub fn changed(&self) -> impl Iterator<Item = (&'static Flag, &Value)> {
        self.given.iter().filter_map(|(name, value)| {
            let flag = flags::find(name)?;
            (default(flag) != *value).then_some((flag, value))
        })
    }

    fn value(&self, name: &str) -> Value {
        let flag = flags::find(name).expect("the caller names a flag of the table");
        self.given.get(name).cloned().unwrap_or_else(|| default(flag))
    }

    /// The text of a flag.
    ///
    /// # Panics
    /// This and its siblings panic if the table has no such flag of this kind; the test that
    /// builds a default configuration finds every such fault.
    pub fn text(&self, name: &str) -> String {
        let Value::Text(text) = self.value(name) else { panic!("{name} is not text") };
        text
    }

    /// The value of a boolean flag.
    pub fn bool(&self, name: &str) -> bool {
        let Value::Bool(value) = self.value(name) else { panic!("{name} is not a boolean") };
        value
    }

    /// The value of an unsigned flag.
    pub fn uint(&self, name: &str) -> u64 {
        let Value::Uint(value) = self.value(name) else { panic!("{name} is not a number") };
        value
    }

    /// The value of a signed flag.
    pub fn int(&self, name: &str) -> i64 {
        let Value::Int(value) = self.value(name) else {
            panic!("{name} is not a number with sign")
        };
        value
    }

    /// The duration of a flag.
    pub fn duration(&self, name: &str) -> GoDuration {
        let Value::Duration(value) = self.value(name) else { panic!("{name} is not a duration") };
        value
    }

    /// The words of a flag.
    pub fn words(&self, name: &str) -> Vec<String> {
        let Value::Words(words) = self.value(name) else { panic!("{name} is not a list") };
        words
    }

    /// The URLs of a flag.
    pub fn urls(&self, name: &str) -> Vec<Url> {
        let Value::Urls(urls) = self.value(name) else { panic!("{name} is not a list of URLs") };
        urls
    }
}

fn default(flag: &Flag) -> Value {
    flag.kind.parse(flag.default).expect("a test reads every default of the table")
}

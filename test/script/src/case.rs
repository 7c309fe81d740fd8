//! One command of a script with its arguments and its input.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

/// An argument: `key`, `key=value` or `key=(value, value)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// The text before the equals sign, or the whole argument.
    pub key: String,
    /// The values after it; empty if there is no equals sign.
    pub values: Vec<String>,
}

/// One command of a script.
#[derive(Clone, Debug)]
pub struct Case {
    /// The script.
    pub path: PathBuf,
    /// The line of the command, from 1.
    pub line: usize,
    /// The first word.
    pub command: String,
    /// The other words, in order.
    pub args: Vec<Arg>,
    /// The lines up to the separator, without the last newline.
    pub input: String,
}

impl Case {
    /// The location of the case, for messages.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.path.display(), self.line)
    }

    /// The first argument with this name.
    #[must_use]
    pub fn arg(&self, key: &str) -> Option<&Arg> {
        self.args.iter().find(|arg| arg.key == key)
    }

    /// Whether there is an argument with this name, with or without values.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.arg(key).is_some()
    }

    /// The one value of an argument.
    ///
    /// # Panics
    /// When it has no value, several, or one of another type.
    #[must_use]
    pub fn value<T: FromStr<Err: Display>>(&self, key: &str) -> Option<T> {
        let arg = self.arg(key)?;
        let [value] = arg.values.as_slice() else {
            panic!("{}: {key} needs exactly one value", self.place());
        };
        Some(self.parse(value))
    }

    /// All values of an argument; none if there is no such argument.
    ///
    /// # Panics
    /// When one is of another type.
    #[must_use]
    pub fn values<T: FromStr<Err: Display>>(&self, key: &str) -> Vec<T> {
        let values = self.arg(key).map_or(&[] as &[String], |arg| &arg.values);
        values.iter().map(|value| self.parse(value)).collect()
    }

    /// The arguments without values, in order: the positional ones.
    #[must_use]
    pub fn words(&self) -> Vec<&str> {
        self.args.iter().filter(|arg| arg.values.is_empty()).map(|arg| arg.key.as_str()).collect()
    }

    /// The argument at this position, from 0, as one word.
    ///
    /// # Panics
    /// When it is missing, has values, or is of another type.
    #[must_use]
    pub fn word<T: FromStr<Err: Display>>(&self, at: usize) -> T {
        match self.args.get(at) {
            Some(arg) if arg.values.is_empty() => self.parse(&arg.key),
            _ => panic!("{}: argument {} must be one word", self.place(), at + 1),
        }
    }

    /// Checks that there are no other arguments, to find typing mistakes.
    ///
    /// # Panics
    /// When there is one.
    pub fn expect_only(&self, keys: &[&str]) {
        for arg in &self.args {
            assert!(
                keys.contains(&arg.key.as_str()),
                "{}: unknown argument {}",
                self.place(),
                arg.key
            );
        }
    }

    fn parse<T: FromStr<Err: Display>>(&self, value: &str) -> T {
        value.parse().unwrap_or_else(|error| panic!("{}: `{value}`: {error}", self.place()))
    }
}

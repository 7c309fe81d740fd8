//! The values of a command's flags: defaults, then what the environment or the command line set.
//!
//! Source: spf13/pflag @ 1.0.10, etcd v3.7.1 pkg/flags/flag.go.

use crate::command::{Flag, Kind};
use crate::duration::GoDuration;
use crate::go;
use std::collections::BTreeMap;
use std::time::Duration;

/// The value of a flag.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Bool(bool),
    Text(Vec<u8>),
    Int(i64),
    Uint(u64),
    Float(f64),
    Duration(GoDuration),
    List(Vec<String>),
}

#[derive(Clone, Debug)]
struct Setting {
    flag: &'static Flag,
    value: Value,
    /// Set by the command line or the environment.
    changed: bool,
}

/// The flags that a command knows, with their values.
///
/// Asking for a flag that the command does not have, or for the wrong kind, is a bug: it panics.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    settings: BTreeMap<&'static str, Setting>,
}

/// Environment variables that no flag was set from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Variables with the prefix that belong to no flag, as `NAME=value`.
    pub unrecognized: Vec<String>,
    /// The first variable whose flag the command line sets too, which etcd's tools refuse.
    pub shadowed: Option<String>,
}

fn read(kind: Kind, text: &[u8]) -> Result<Value, String> {
    let lossy = String::from_utf8_lossy(text);
    Ok(match kind {
        Kind::Bool => Value::Bool(go::parse_bool(&lossy)?),
        Kind::Text => Value::Text(text.to_vec()),
        Kind::Int => Value::Int(go::parse_int(&lossy, 0)?),
        Kind::Uint => Value::Uint(go::parse_uint(&lossy, 0)?),
        Kind::Float => Value::Float(go::parse_float(&lossy)?),
        Kind::Duration => {
            Value::Duration(GoDuration::parse(&lossy).map_err(|why| format!("time: {why}"))?)
        }
        Kind::List if text.is_empty() => Value::List(Vec::new()),
        Kind::List => Value::List(lossy.split(',').map(str::to_string).collect()),
    })
}

impl Flags {
    pub(crate) fn new(known: impl IntoIterator<Item = &'static Flag>) -> Flags {
        let settings = known
            .into_iter()
            .map(|flag| {
                let value = read(flag.kind, flag.default.as_bytes());
                let value = value.expect("a flag's default is in its own notation");
                (flag.name, Setting { flag, value, changed: false })
            })
            .collect();
        Flags { settings }
    }

    pub(crate) fn known(&self, name: &str) -> Option<&'static Flag> {
        self.settings.get(name).map(|setting| setting.flag)
    }

    pub(crate) fn known_short(&self, letter: char) -> Option<&'static Flag> {
        self.settings.values().map(|s| s.flag).find(|flag| flag.short == Some(letter))
    }

    /// Sets a flag as the command line does.
    ///
    /// # Errors
    /// pflag's sentence when the value cannot be read.
    pub fn set(&mut self, name: &str, text: &[u8]) -> Result<(), String> {
        let setting = self.settings.get_mut(name).expect("only known flags are set");
        let value = read(setting.flag.kind, text).map_err(|why| {
            let shown = match setting.flag.short {
                Some(letter) => format!("-{letter}, --{name}"),
                None => format!("--{name}"),
            };
            format!("invalid argument {} for \"{shown}\" flag: {why}", go::quote(text))
        })?;
        setting.value = match (&setting.value, value) {
            (Value::List(old), Value::List(new)) if setting.changed => {
                Value::List(old.iter().chain(&new).cloned().collect())
            }
            (_, value) => value,
        };
        setting.changed = true;
        Ok(())
    }

    fn value(&self, name: &str) -> &Value {
        &self.settings.get(name).unwrap_or_else(|| panic!("no flag --{name} here")).value
    }

    /// Whether the command line or the environment gave the flag.
    #[must_use]
    pub fn changed(&self, name: &str) -> bool {
        self.settings.get(name).is_some_and(|setting| setting.changed)
    }

    /// The value of a switch.
    #[must_use]
    pub fn bool(&self, name: &str) -> bool {
        matches!(self.value(name), Value::Bool(true))
    }

    /// The value of a number.
    #[must_use]
    pub fn int(&self, name: &str) -> i64 {
        let Value::Int(number) = self.value(name) else { panic!("--{name} is not a number") };
        *number
    }

    /// The value of a number without sign.
    #[must_use]
    pub fn uint(&self, name: &str) -> u64 {
        let Value::Uint(number) = self.value(name) else { panic!("--{name} is not a number") };
        *number
    }

    /// The value of a decimal number.
    #[must_use]
    pub fn float(&self, name: &str) -> f64 {
        let Value::Float(number) = self.value(name) else {
            panic!("--{name} is no decimal number")
        };
        *number
    }

    /// The bytes of a text.
    #[must_use]
    pub fn bytes(&self, name: &str) -> &[u8] {
        let Value::Text(text) = self.value(name) else { panic!("--{name} is not a text") };
        text
    }

    /// A text, with a replacement for what is not UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(self.bytes(name)).into_owned()
    }

    /// A duration; zero instead of a negative one.
    #[must_use]
    pub fn duration(&self, name: &str) -> Duration {
        let Value::Duration(value) = self.value(name) else { panic!("--{name} is no duration") };
        value.to_std()
    }

    /// The parts of a list.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<String> {
        let Value::List(list) = self.value(name) else { panic!("--{name} is not a list") };
        list.clone()
    }

    /// Every flag as `PREFIX_NAME=value`, sorted by name, as `--debug` prints them.
    #[must_use]
    pub fn shown(&self, prefix: &str) -> Vec<String> {
        let shown = |value: &Value| match value {
            Value::Bool(value) => value.to_string(),
            Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Value::Int(number) => number.to_string(),
            Value::Uint(number) => number.to_string(),
            Value::Float(number) => go::float(*number),
            Value::Duration(duration) => duration.to_string(),
            Value::List(list) => format!("[{}]", list.join(",")),
        };
        self.settings
            .iter()
            .map(|(name, s)| format!("{}={}", variable(prefix, name), shown(&s.value)))
            .collect()
    }

    /// Sets the flags that the command line did not set from environment variables:
    /// `--dial-timeout` is `PREFIX_DIAL_TIMEOUT`. Only the flags in `names` are set. `quiet` are
    /// variables of other programs, which are not reported. A value that cannot be parsed is
    /// ignored, as in etcd.
    pub fn set_from_environment(
        &mut self,
        prefix: &str,
        names: &[&'static str],
        quiet: &[&str],
        variables: &BTreeMap<String, Vec<u8>>,
    ) -> Environment {
        let mut used = quiet.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut hidden = Vec::new();
        for name in names {
            let variable = variable(prefix, name);
            if self.changed(name) {
                hidden.push(variable);
            } else if let Some(text) = variables.get(&variable).filter(|text| !text.is_empty()) {
                used.push(variable);
                if self.set(name, text).is_err() {
                    continue;
                }
            }
        }
        let mut unused = Environment::default();
        let own = format!("{prefix}_");
        for (name, text) in variables.iter().filter(|(name, _)| !used.contains(name)) {
            if hidden.contains(name) {
                unused.shadowed = Some(name.clone());
                break;
            }
            if name.starts_with(&own) {
                unused.unrecognized.push(format!("{name}={}", String::from_utf8_lossy(text)));
            }
        }
        unused
    }
}

fn variable(prefix: &str, name: &str) -> String {
    format!("{prefix}_{}", name.replace('-', "_").to_ascii_uppercase())
}

//! `--config-file`: YAML or JSON. The keys are names of flags; a few settings are in sections.
//!
//! Source: etcd server/embed/config.go `configFromFile` @ v3.7.1.

use crate::flags::{self, Flag};
use crate::old;
use crate::settings::{Notice, Settings};
use crate::value::{Kind, Value};
use cli::duration::GoDuration;
use serde_json::{Map, Value as Json};

/// Why a file was refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// Logged as `failed to verify flags`.
    Invalid(String),
    /// Printed as it is, as etcd does for URLs.
    Printed(String),
}

/// The sections: each key and the flag that it sets.
const SECTIONS: [(&str, &[(&str, &str)]); 4] = [
    (
        "client-transport-security",
        &[
            ("cert-file", "cert-file"),
            ("key-file", "key-file"),
            ("client-cert-file", "client-cert-file"),
            ("client-key-file", "client-key-file"),
            ("client-cert-auth", "client-cert-auth"),
            ("trusted-ca-file", "trusted-ca-file"),
            ("auto-tls", "auto-tls"),
            ("allowed-cn", "client-cert-allowed-cn"),
            ("allowed-hostname", "client-cert-allowed-hostname"),
        ],
    ),
    (
        "peer-transport-security",
        &[
            ("cert-file", "peer-cert-file"),
            ("key-file", "peer-key-file"),
            ("client-cert-file", "peer-client-cert-file"),
            ("client-key-file", "peer-client-key-file"),
            ("client-cert-auth", "peer-client-cert-auth"),
            ("trusted-ca-file", "peer-trusted-ca-file"),
            ("auto-tls", "peer-auto-tls"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
            ("skip-client-san-verification", "peer-skip-client-san-verification"),
        ],
    ),
    (
        "socket-options",
        &[("reuse-port", "socket-reuse-port"), ("reuse-address", "socket-reuse-address")],
    ),
    (
        "discovery-config",
        &[
            ("token", "discovery-token"),
            ("endpoints", "discovery-endpoints"),
            ("dial-timeout", "discovery-dial-timeout"),
            ("request-timeout", "discovery-request-timeout"),
            ("keepalive-time", "discovery-keepalive-time"),
            ("keepalive-timeout", "discovery-keepalive-timeout"),
            ("cert", "discovery-cert"),
            ("key", "discovery-key"),
            ("cacert", "discovery-cacert"),
            ("insecure-transport", "discovery-insecure-transport"),
            ("insecure-skip-tls-verify", "discovery-insecure-skip-tls-verify"),
            ("username", "discovery-user"),
            ("password", "discovery-password"),
        ],
    ),
];

/// Flags that a file cannot set, since they are not fields of etcd's configuration.
const NOT_IN_FILES: [&str; 5] =
    ["config-file", "version", "discovery-fallback", "raft-read-timeout", "raft-write-timeout"];

/// Parses the text of a file.
///
/// # Errors
/// [`Error`], with etcd's message where etcd has one.
pub fn parse(text: &str, settings: &mut Settings) -> Result<(), Error> {
    let yaml: serde_yaml_ng::Value = serde_yaml_ng::from_str(text)
        .map_err(|e| Error::Invalid(format!("error converting YAML to JSON: yaml: {e}")))?;
    let json = serde_json::to_value(&yaml)
        .map_err(|e| Error::Invalid(format!("error converting YAML to JSON: yaml: {e}")))?;
    let top = match json {
        Json::Null => Map::new(),
        Json::Object(map) => map,
        other @ (Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_)) => {
            return Err(decoding(&other, "Go value", "embed.configYAML"));
        }
    };
    for (key, value) in &top {
        if let Some((_, keys)) = SECTIONS.iter().find(|(section, _)| section == key) {
            section(settings, key, keys, value)?;
            continue;
        }
        match old::find(key).filter(|flag| !NOT_IN_FILES.contains(&flag.name)) {
            Some(flag) => set(settings, flag, key, value)?,
            None => unknown(settings, key),
        }
    }
    Ok(())
}

/// As in etcd, unknown keys are ignored.
fn unknown(settings: &mut Settings, key: &str) {
    let message = "unrecognized key in the configuration file; it is ignored";
    settings.notices.push(Notice::new("warn", message, [("key", key.to_owned())]));
}

fn section(
    settings: &mut Settings,
    name: &str,
    keys: &[(&str, &str)],
    value: &Json,
) -> Result<(), Error> {
    let map = match value {
        Json::Null => return Ok(()),
        Json::Object(map) => map,
        other @ (Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_)) => {
            let place = format!("Go struct field configYAML.configJSON.{name}");
            return Err(decoding(other, &place, "embed.securityConfig"));
        }
    };
    for (key, value) in map {
        // The section of discovery contains further sections: client, secure, auth.
        if name == "discovery-config" && value.is_object() {
            section(settings, name, keys, value)?;
            continue;
        }
        let flag = keys.iter().find(|(k, _)| k == key).and_then(|(_, flag)| flags::find(flag));
        match flag {
            Some(flag) => set(settings, flag, key, value)?,
            None => unknown(settings, &format!("{name}.{key}")),
        }
    }
    Ok(())
}

fn set(settings: &mut Settings, flag: &'static Flag, key: &str, value: &Json) -> Result<(), Error> {
    if value.is_null() {
        return Ok(());
    }
    let wrong = || decoding(value, &format!("Go struct field configYAML.Config.{key}"), go(flag));
    let parsed = match flag.kind {
        Kind::Bool => Value::Bool(value.as_bool().ok_or_else(wrong)?),
        Kind::Uint => Value::Uint(value.as_u64().ok_or_else(wrong)?),
        Kind::Uint32 => {
            let number = value.as_u64().filter(|n| u32::try_from(*n).is_ok()).ok_or_else(wrong)?;
            Value::Uint(number)
        }
        Kind::Int => Value::Int(value.as_i64().ok_or_else(wrong)?),
        Kind::Duration => Value::Duration(GoDuration(value.as_i64().ok_or_else(wrong)?)),
        Kind::Words => Value::Words(words(value).ok_or_else(wrong)?),
        // These are lists in a file, except for the host names, which are one text.
        Kind::UniqueWords if flag.name != "host-whitelist" => {
            Value::Words(words(value).ok_or_else(wrong)?)
        }
        Kind::Urls => {
            let text = value.as_str().ok_or_else(wrong)?;
            if text.is_empty() {
                return Ok(());
            }
            let shown = if key == "advertise-client-urls" { "advertise-peer-urls" } else { key };
            flag.kind.parse(text).map_err(|why| {
                Error::Printed(format!("unexpected error setting up {shown}: {why}"))
            })?
        }
        Kind::Choice(words) => {
            let text = value.as_str().ok_or_else(wrong)?;
            if flag.name == "initial-cluster-state" && !words.contains(&text) && !text.is_empty() {
                return Err(Error::Invalid(format!("unexpected clusterState {text:?}")));
            }
            if text.is_empty() {
                return Ok(());
            }
            flag.kind.parse(text).map_err(|e| Error::Invalid(format!("{key}: {e} {text:?}")))?
        }
        Kind::Choices(_) => Value::Words(vec![value.as_str().ok_or_else(wrong)?.to_owned()]),
        Kind::Text | Kind::UniqueWords | Kind::UrlsOrStar | Kind::Gates | Kind::Ignored => {
            let text = value.as_str().ok_or_else(wrong)?;
            flag.kind.parse(text).map_err(Error::Invalid)?
        }
    };
    settings.set(flag, parsed);
    Ok(())
}

fn words(value: &Json) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|word| word.as_str().map(str::to_owned)).collect()
}

/// The name of the flag's type in Go, for messages.
fn go(flag: &Flag) -> &'static str {
    match flag.kind {
        Kind::Bool => "bool",
        Kind::Uint if flag.name.starts_with("snapshot-c") => "uint64",
        Kind::Uint => "uint",
        Kind::Uint32 => "uint32",
        Kind::Int if flag.name == "quota-backend-bytes" => "int64",
        Kind::Int => "int",
        Kind::Duration => "time.Duration",
        Kind::Words => "[]string",
        Kind::UniqueWords if flag.name != "host-whitelist" => "[]string",
        Kind::UniqueWords
        | Kind::Text
        | Kind::Choice(_)
        | Kind::Choices(_)
        | Kind::Urls
        | Kind::UrlsOrStar
        | Kind::Gates
        | Kind::Ignored => "string",
    }
}

fn decoding(value: &Json, place: &str, kind: &str) -> Error {
    let what = match value {
        Json::Null => "null".to_owned(),
        Json::Bool(_) => "bool".to_owned(),
        // Go prints the number if the field is a number too, but of another range.
        Json::Number(n) if kind.contains("int") || kind == "time.Duration" => format!("number {n}"),
        Json::Number(_) => "number".to_owned(),
        Json::String(_) => "string".to_owned(),
        Json::Array(_) => "array".to_owned(),
        Json::Object(_) => "object".to_owned(),
    };
    Error::Invalid(format!(
        "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {what} into {place} \
         of type {kind}"
    ))
}

//! `ETCD_*` variables, which set the flags that the command line does not set.
//!
//! Source: etcd pkg/flags/flag.go and server/etcdmain/config.go @ v3.7.1.

use crate::old;
use crate::settings::{Notice, Settings};

/// The variables of the process, as `(name, value)`.
pub type Variables = [(String, String)];

/// The fatal message when the command line and a variable set the same flag.
pub const SHADOWED: &str = "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))";

/// The variable of a flag.
pub fn variable(flag: &str) -> String {
    format!("ETCD_{}", flag.to_uppercase().replace('-', "_"))
}

/// The value of a variable, unless it is empty.
pub fn lookup<'a>(variables: &'a Variables, name: &str) -> Option<&'a str> {
    let (_, value) = variables.iter().find(|(key, _)| key == name)?;
    (!value.is_empty()).then_some(value)
}

/// Sets the flags that the command line did not set.
///
/// # Errors
/// When a value is invalid; or, with a `fatal` notice, when a variable and the command line set the
/// same flag.
pub fn apply(settings: &mut Settings, variables: &Variables) -> Result<(), String> {
    let mut notices = Vec::new();
    // Images of containers set this variable to their version.
    let special = "ETCD_VERSION";
    if let Some(value) = lookup(variables, special) {
        let fields = [("key", special.to_owned()), ("value", value.to_owned())];
        notices.push(Notice::new("warn", "cannot set special environment variable", fields));
    }
    let mut used: Vec<String> = vec![special.to_owned(), "ETCD_UNSUPPORTED_ARCH".to_owned()];
    let mut shadowing: Vec<String> = Vec::new();
    let mut error = None;
    let mut table: Vec<_> = old::all().collect();
    table.sort_by_key(|flag| flag.name);
    for flag in table {
        let name = variable(flag.name);
        if settings.is_given(flag.name) {
            shadowing.push(name);
            continue;
        }
        let Some(value) = lookup(variables, &name).filter(|_| name != special) else { continue };
        used.push(name.clone());
        match flag.kind.parse(value) {
            Err(why) => error = Some(format!("invalid value {value:?} for {name}: {why}")),
            Ok(parsed) => {
                settings.set(flag, parsed);
                let fields = [("variable-name", name), ("variable-value", value.to_owned())];
                let message = "recognized and used environment variable";
                notices.push(Notice::new("info", message, fields));
            }
        }
    }
    for (name, value) in variables {
        if shadowing.contains(name) {
            let fields = [("environment-variable", name.clone())];
            notices.push(Notice::new("fatal", SHADOWED, fields));
            error = Some(SHADOWED.to_owned());
            break;
        }
        if name.starts_with("ETCD_") && !used.contains(name) {
            let fields = [("environment-variable", format!("{name}={value}"))];
            notices.push(Notice::new("warn", "unrecognized environment variable", fields));
        }
    }
    settings.notices.extend(notices);
    error.map_or(Ok(()), Err)
}

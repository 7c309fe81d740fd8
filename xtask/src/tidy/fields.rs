//! A struct has at most twelve fields: more are several things in one.

use super::modules::{Crate, split_at_commas};
use super::tokens::{Token, closing};

/// Fields of a struct.
const FIELDS_MAX: usize = 12;

/// Tables, whose fields are given from outside. Each says why.
const TABLES: &[(&str, &str)] = &[];

/// Structs that are still too large. Entries may only be removed.
const KNOWN: &[&str] = &[];

/// The structs of all crates that have too many fields.
pub(crate) fn faults(crates: &[Crate]) -> Vec<String> {
    let allowed: Vec<&str> =
        TABLES.iter().map(|(name, _)| *name).chain(KNOWN.iter().copied()).collect();
    check(crates, &allowed)
}

/// `allowed` names structs as `file: Name`.
fn check(crates: &[Crate], allowed: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut needed = Vec::new();
    for module in crates.iter().flat_map(|package| package.modules.values()) {
        for (name, line, fields) in structs(&module.code) {
            let place = format!("{}: {name}", module.file);
            if fields <= FIELDS_MAX {
                continue;
            }
            if !allowed.contains(&place.as_str()) {
                let file = &module.file;
                faults.push(format!(
                    "{file}:{line}: {name} has {fields} fields; the limit is {FIELDS_MAX}"
                ));
            }
            needed.push(place);
        }
    }
    let gone = allowed.iter().filter(|name| !needed.iter().any(|n| n == *name));
    faults.extend(gone.map(|name| {
        format!("{name} is not too large any more: remove it from xtask/src/tidy/fields.rs")
    }));
    faults
}

/// The structs with named fields: name, line, number of fields.
fn structs(code: &[Token]) -> Vec<(&str, usize, usize)> {
    let mut found = Vec::new();
    for (at, token) in code.iter().enumerate() {
        if !token.is("struct") {
            continue;
        }
        let Some(name) = code.get(at + 1) else { continue };
        let Some(open) = code[at..].iter().position(|t| t.is("{") || t.is(";") || t.is("(")) else {
            continue;
        };
        let open = at + open;
        if code[open].is("{") {
            found.push((
                name.text.as_str(),
                name.line,
                fields(&code[open + 1..closing(code, open)]),
            ));
        }
    }
    found
}

/// A field is a part with a colon; a comma between `<` and `>` makes parts without one.
fn fields(body: &[Token]) -> usize {
    split_at_commas(body).into_iter().filter(|part| part.iter().any(|t| t.is(":"))).count()
}

#[cfg(test)]
mod tests {
    use super::super::modules::sample;
    use super::*;

    fn with(fields: usize) -> String {
        let fields: String =
            (0..fields).map(|n| format!("/// A map.\n pub f{n}: Map<A, fn(B) -> C>,\n")).collect();
        format!("pub struct Small(u8);\n#[derive(X)]\npub struct Large<'a> {{\n{fields}}}")
    }

    #[test]
    fn a_struct_of_thirteen_fields_is_a_fault() {
        let of =
            |count: usize, allowed: &[&str]| check(&[sample(&[("lib.rs", &with(count))])], allowed);
        assert_eq!(of(12, &[]), Vec::<String>::new());
        assert_eq!(of(13, &[]), ["lib.rs:3: Large has 13 fields; the limit is 12"]);
        assert_eq!(of(13, &["lib.rs: Large"]), Vec::<String>::new());
        assert_eq!(of(12, &["lib.rs: Large"]).len(), 1);
    }
}

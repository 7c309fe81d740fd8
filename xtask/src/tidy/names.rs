//! A type's name means one thing: what `core` exports has a name of its own, and the names that
//! once had several meanings occur once in the whole workspace.

use super::modules::{Crate, Item, Module};
use std::collections::BTreeMap;

/// Names that say the same of each crate that has them.
const COMMON: [&str; 6] = ["Error", "Input", "Effect", "Options", "Config", "Limits"];

/// Names that once had several meanings. Private types count, too.
const CONTESTED: [&str; 12] = [
    "Change", "Entry", "Found", "Head", "Held", "Log", "Outcome", "Reject", "Run", "Slot", "State",
    "Store",
];

/// Names that still mean several things. Entries may only be removed.
const KNOWN: &[&str] = &["Member", "Restored", "View"];

/// Type names that occur more than once.
pub(crate) fn faults(crates: &[Crate]) -> Vec<String> {
    check(crates, KNOWN)
}

fn check(crates: &[Crate], known: &[&str]) -> Vec<String> {
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for module in crates.iter().flat_map(|package| package.modules.values()) {
        for item in module.items.iter().filter(|item| counts(module, item)) {
            places.entry(&item.name).or_default().push(format!("{}:{}", module.file, item.line));
        }
    }
    places.retain(|_, places| places.len() > 1);
    let mut faults = Vec::new();
    for (name, places) in places.iter().filter(|(name, _)| !known.contains(name)) {
        let others = places[1..].join(", ");
        faults.push(format!("{}: {name} is the name of another type, too: {others}", places[0]));
    }
    let gone = known.iter().filter(|name| !places.contains_key(*name));
    faults.extend(
        gone.map(|name| {
            format!("{name} means one thing now: remove it from xtask/src/tidy/names.rs")
        }),
    );
    faults
}

fn counts(module: &Module, item: &Item) -> bool {
    let is_type = matches!(item.kind.as_str(), "struct" | "enum" | "union" | "trait" | "type");
    let name = item.name.as_str();
    let is_exported_by_core =
        item.exported && module.file.starts_with("core/") && !COMMON.contains(&name);
    is_type && (is_exported_by_core || CONTESTED.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::super::modules::sample;
    use super::*;

    #[test]
    fn a_name_of_two_types_is_a_fault() {
        let crates = [
            sample(&[(
                "core/a.rs",
                "pub struct Page; struct Held; pub enum Error {} struct Mine;",
            )]),
            sample(&[("core/b.rs", "pub trait Page {} pub struct Error; pub(crate) struct Mine;")]),
            sample(&[("edge/c.rs", "pub struct Page; enum Held {}")]),
        ];
        let faults = [
            "core/a.rs:1: Held is the name of another type, too: edge/c.rs:1",
            "core/a.rs:1: Page is the name of another type, too: core/b.rs:1",
        ];
        assert_eq!(check(&crates, &[]), faults);
        assert_eq!(check(&crates, &["Page", "Held"]), Vec::<String>::new());
        assert_eq!(check(&crates[..1], &["Page"]).len(), 1);
    }
}

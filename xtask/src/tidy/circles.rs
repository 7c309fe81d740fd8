//! Modules of a crate import each other in one direction: no circle leads from a module back to
//! itself. A parent may export the items of its children again; that alone is no import.

use super::modules::{Crate, Module, ModulePath, Target};
use super::tokens::Token;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Crates that still have circles. Entries may only be removed.
const KNOWN: &[&str] = &[];

/// Each module with the modules that it imports from.
type Edges = BTreeMap<ModulePath, BTreeSet<ModulePath>>;

/// The circles of all crates.
pub(crate) fn faults(crates: &[Crate]) -> Vec<String> {
    check(crates, KNOWN)
}

fn check(crates: &[Crate], known: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    for package in crates {
        let circles = circles(&edges(package));
        let is_known = known.contains(&package.file.as_str());
        match (circles.is_empty(), is_known) {
            (true, true) => faults.push(format!(
                "{}: has no circle any more: remove it from xtask/src/tidy/circles.rs",
                package.file
            )),
            (false, false) => {
                let lines = circles.iter().map(|circle| {
                    let names: Vec<String> = circle.iter().map(|path| shown(path)).collect();
                    format!("{}: modules import in a circle: {}", package.file, names.join(" → "))
                });
                faults.extend(lines);
            }
            _ => {}
        }
    }
    let gone = known.iter().filter(|name| !crates.iter().any(|c| c.file == **name));
    faults.extend(
        gone.map(|name| format!("{name}: there is no such crate: xtask/src/tidy/circles.rs")),
    );
    faults
}

fn shown(path: &[String]) -> String {
    if path.is_empty() { "the root".to_owned() } else { path.join("::") }
}

/// Which module imports from which.
fn edges(package: &Crate) -> Edges {
    let mut edges = Edges::new();
    for (path, module) in &package.modules {
        let mut targets = BTreeSet::new();
        for import in &module.uses {
            let Some(target) = package.resolve(path, &import.path) else { continue };
            match (target, &import.name) {
                (Target::Module(target), None) => {
                    targets.insert(target);
                }
                // An import of the module itself: the paths in the code that use it are below.
                (Target::Module(_), Some(_)) => {}
                (Target::Item(target), name) => {
                    let exported = import.public && target.starts_with(path);
                    let used = name.as_ref().is_some_and(|name| uses(module, name));
                    if !exported || used {
                        targets.insert(target);
                    }
                }
            }
        }
        for written in paths(&module.code) {
            if let Some(Target::Item(target) | Target::Module(target)) =
                package.resolve(path, &written)
            {
                targets.insert(target);
            }
        }
        targets.remove(path);
        edges.insert(path.clone(), targets);
    }
    edges
}

fn uses(module: &Module, name: &str) -> bool {
    module.code.iter().any(|token| token.is(name))
}

/// The paths of at least two names in a module's code.
fn paths(code: &[Token]) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let before = at.checked_sub(1).map(|before| code[before].text.as_str());
        if !code[at].is_word() || matches!(before, Some("::" | ".")) {
            at += 1;
            continue;
        }
        let mut path = vec![code[at].text.clone()];
        while code.get(at + 1).is_some_and(|t| t.is("::"))
            && code.get(at + 2).is_some_and(Token::is_word)
        {
            path.push(code[at + 2].text.clone());
            at += 2;
        }
        at += 1;
        // `pub(in crate::a)` imports nothing.
        if path.len() > 1 && before != Some("in") {
            paths.push(path);
        }
    }
    paths
}

/// One shortest circle for each set of modules that reach each other.
fn circles(edges: &Edges) -> Vec<Vec<ModulePath>> {
    let mut circles = Vec::new();
    let mut seen = BTreeSet::new();
    for start in edges.keys() {
        if seen.contains(start) {
            continue;
        }
        if let Some(circle) = shortest(edges, start) {
            let forward = reached(edges, start);
            let together =
                forward.into_iter().filter(|other| reached(edges, other).contains(start));
            seen.extend(together);
            circles.push(circle);
        }
    }
    circles
}

fn reached(edges: &Edges, start: &ModulePath) -> BTreeSet<ModulePath> {
    let mut found = BTreeSet::new();
    let mut open = vec![start];
    while let Some(at) = open.pop() {
        for next in edges.get(at).into_iter().flatten() {
            if found.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    found
}

/// The shortest way from a module back to it, with the module at both ends.
fn shortest(edges: &Edges, start: &ModulePath) -> Option<Vec<ModulePath>> {
    let mut before: BTreeMap<&ModulePath, &ModulePath> = BTreeMap::new();
    let mut open = VecDeque::from([start]);
    while let Some(at) = open.pop_front() {
        for next in edges.get(at).into_iter().flatten() {
            if next == start {
                let mut circle = vec![start.clone(), at.clone()];
                let mut step = at;
                while let Some(earlier) = before.get(step) {
                    circle.push((*earlier).clone());
                    step = earlier;
                }
                if at == start {
                    circle.pop();
                }
                circle.reverse();
                return Some(circle);
            }
            if !before.contains_key(next) {
                before.insert(next, at);
                open.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::modules::sample;
    use super::*;

    fn of(files: &[(&str, &str)], known: &[&str]) -> Vec<String> {
        check(&[sample(files)], known)
    }

    #[test]
    fn a_circle_of_three_modules_is_named() {
        let faults = of(
            &[
                ("lib.rs", "mod a; mod b; mod c; mod d; pub use a::A;"),
                ("a.rs", "use crate::b::{B, D}; pub struct A(B);"),
                ("b.rs", "use super::c; pub struct B; pub fn f() { c::g() }"),
                ("c.rs", "pub fn g() { crate::A::new(); }"),
                ("d.rs", "use crate::A;"),
            ],
            &[],
        );
        assert_eq!(faults, ["lib.rs: modules import in a circle: a → b → c → a"]);
    }

    #[test]
    fn exporting_a_child_is_no_import_but_using_it_is() {
        let child = ("a.rs", "use crate::Thing; pub struct A(Thing);");
        let exports = ("lib.rs", "mod a; pub use a::A; pub struct Thing;");
        assert_eq!(of(&[exports, child], &[]), Vec::<String>::new());
        let circle = ["lib.rs: modules import in a circle: the root → a → the root"];
        let uses = ("lib.rs", "mod a; pub use a::A; pub struct Thing; pub fn f(a: A) {}");
        assert_eq!(of(&[uses, child], &[]), circle);
        let calls = ("lib.rs", "mod a; pub struct Thing; pub fn f() { a::A::new() }");
        assert_eq!(of(&[calls, child], &[]), circle);
    }

    #[test]
    fn tests_and_visibilities_import_nothing() {
        let faults = of(
            &[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", "use crate::b::B; pub(in crate::a) struct A; pub(crate) struct C;"),
                ("b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }"),
            ],
            &[],
        );
        assert_eq!(faults, Vec::<String>::new());
    }

    #[test]
    fn a_known_circle_must_be_removed_from_the_list_when_it_is_gone() {
        let circle = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "use crate::a::A; pub struct B;"),
        ];
        assert_eq!(of(&circle, &["lib.rs"]), Vec::<String>::new());
        assert_eq!(of(&circle[..1], &["lib.rs"]).len(), 1);
        assert_eq!(of(&circle[..1], &["other.rs"]).len(), 1);
    }
}

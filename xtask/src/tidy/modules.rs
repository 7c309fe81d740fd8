//! A crate as its modules: which items each one defines, what it imports, and which module each
//! import leads to.
//!
//! Not here: what is a fault (`circles`, `names`, `fields`).

use super::tokens::{Token, closing, tokens, without_tests};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The names of a module and its parents from the crate's root down; empty for the root.
pub(crate) type ModulePath = Vec<String>;

/// How many imports a name is followed through before it is taken for unknown.
const HOPS_MAX: usize = 16;

/// One crate: a library, or one program.
#[derive(Debug)]
pub(crate) struct Crate {
    /// The path of its root file below the workspace.
    pub(crate) file: String,
    /// Its modules, without those of tests.
    pub(crate) modules: BTreeMap<ModulePath, Module>,
}

/// One module, without its inline children.
#[derive(Debug, Default)]
pub(crate) struct Module {
    /// The file that it is in, below the workspace.
    pub(crate) file: String,
    /// Everything but `use` declarations and child modules.
    pub(crate) code: Vec<Token>,
    /// The items that it defines.
    pub(crate) items: Vec<Item>,
    /// The names of its child modules.
    children: Vec<String>,
    /// Its `use` declarations, one for each name.
    pub(crate) uses: Vec<Use>,
}

/// An item that a module defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// The keyword: `struct`, `fn`, …
    pub(crate) kind: String,
    /// The name.
    pub(crate) name: String,
    /// Whether it is `pub` without a limit: the lints see to it that this means exported.
    pub(crate) exported: bool,
    /// The line of its name, from 1.
    pub(crate) line: usize,
}

/// One imported name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    /// The path as written.
    pub(crate) path: Vec<String>,
    /// The name in this module; `None` for `*`.
    pub(crate) name: Option<String>,
    /// Whether it is exported again.
    pub(crate) public: bool,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To a module itself.
    Module(ModulePath),
    /// To an item of this module.
    Item(ModulePath),
}

/// Where a module is.
struct Place {
    path: ModulePath,
    /// Its file, below the workspace.
    file: PathBuf,
    /// The folder for the files of its children.
    folder: PathBuf,
}

impl Module {
    fn defines(&self, name: &str) -> bool {
        self.items.iter().any(|item| item.name == name)
    }

    fn has_child(&self, name: &str) -> bool {
        self.children.iter().any(|child| child == name)
    }
}

impl Crate {
    /// Reads a crate from its root file; `read` gives the text of a file below the workspace.
    pub(crate) fn read(root: &str, read: &dyn Fn(&Path) -> Option<String>) -> Self {
        let mut this = Self { file: root.to_owned(), modules: BTreeMap::new() };
        let file = Path::new(root);
        let folder = file.parent().unwrap_or(file).to_owned();
        this.add_file(Place { path: Vec::new(), file: file.to_owned(), folder }, read);
        this
    }

    fn add_file(&mut self, place: Place, read: &dyn Fn(&Path) -> Option<String>) {
        if let Some(text) = read(&place.file) {
            self.add(place, &without_tests(&tokens(&text)), read);
        }
    }

    /// Adds a module and its children.
    fn add(&mut self, place: Place, tokens: &[Token], read: &dyn Fn(&Path) -> Option<String>) {
        let parsed = parse(tokens);
        for (name, body) in parsed.children {
            let mut path = place.path.clone();
            path.push(name.clone());
            let folder = place.folder.join(&name);
            let child = |file: PathBuf| Place { path, file, folder: folder.clone() };
            if let Some(body) = body {
                self.add(child(place.file.clone()), &body, read);
                continue;
            }
            let beside = place.folder.join(format!("{name}.rs"));
            let is_beside = read(&beside).is_some();
            let file = if is_beside { beside } else { folder.join("mod.rs") };
            self.add_file(child(file), read);
        }
        let file = place.file.display().to_string();
        self.modules.insert(place.path, Module { file, ..parsed.module });
    }

    /// Where a path leads that is written in the module `from`; `None` if it leaves the crate.
    pub(crate) fn resolve(&self, from: &[String], path: &[String]) -> Option<Target> {
        self.follow(from, path, HOPS_MAX)
    }

    fn follow(&self, from: &[String], path: &[String], hops: usize) -> Option<Target> {
        let hops = hops.checked_sub(1)?;
        let mut at = from.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                at.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|s| s == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
            }
            first => {
                let module = self.modules.get(from)?;
                let known = module.has_child(first)
                    || module.defines(first)
                    || module.uses.iter().any(|u| u.name.as_deref() == Some(first));
                if !known {
                    return None;
                }
            }
        }
        self.walk(at, rest, hops)
    }

    fn walk(&self, at: ModulePath, rest: &[String], hops: usize) -> Option<Target> {
        let Some((name, behind)) = rest.split_first() else { return Some(Target::Module(at)) };
        let module = self.modules.get(&at)?;
        if module.has_child(name) && !(behind.is_empty() && module.defines(name)) {
            let mut child = at;
            child.push(name.clone());
            return self.walk(child, behind, hops);
        }
        if module.defines(name) {
            return Some(Target::Item(at));
        }
        for import in &module.uses {
            if import.name.as_ref() == Some(name) && import.path != rest {
                let mut path = import.path.clone();
                path.extend_from_slice(behind);
                return self.follow(&at, &path, hops);
            }
        }
        for import in module.uses.iter().filter(|u| u.name.is_none()) {
            if let Some(Target::Module(globbed)) = self.follow(&at, &import.path, hops)
                && self.modules.get(&globbed).is_some_and(|m| m.defines(name) || m.has_child(name))
            {
                return self.walk(globbed, rest, hops);
            }
        }
        // An item that a macro makes.
        Some(Target::Item(at))
    }
}

/// Parses the tokens of one module. A child without a body is in a file of its own.
struct Parsed {
    module: Module,
    children: Vec<(String, Option<Vec<Token>>)>,
}

fn parse(tokens: &[Token]) -> Parsed {
    let mut module = Module::default();
    let mut children = Vec::new();
    let (mut at, mut depth) = (0, 0usize);
    while at < tokens.len() {
        let token = &tokens[at];
        let follows = |place: usize, text: &str| tokens.get(place).is_some_and(|t| t.is(text));
        match token.text.as_str() {
            "use" if !follows(at + 1, "<") => {
                let length = tokens[at..].iter().position(|t| t.is(";"));
                let end = length.map_or(tokens.len(), |length| at + length);
                let public = is_public(tokens, at);
                use_tree(&tokens[at + 1..end], &[], public, &mut module.uses);
                at = end;
            }
            "mod" if depth == 0 && follows(at + 2, ";") => {
                children.push((tokens[at + 1].text.clone(), None));
                at += 2;
            }
            "mod" if depth == 0 && follows(at + 2, "{") => {
                let end = closing(tokens, at + 2);
                children.push((tokens[at + 1].text.clone(), Some(tokens[at + 3..end].to_vec())));
                at = end;
            }
            text => {
                match text {
                    "{" | "(" | "[" => depth += 1,
                    "}" | ")" | "]" => depth = depth.saturating_sub(1),
                    _ if depth == 0 => module.items.extend(item(tokens, at)),
                    _ => {}
                }
                module.code.push(token.clone());
            }
        }
        at += 1;
    }
    module.children = children.iter().map(|(name, _)| name.clone()).collect();
    Parsed { module, children }
}

/// The item whose keyword stands at `at`.
fn item(tokens: &[Token], at: usize) -> Option<Item> {
    let kind = &tokens[at].text;
    let name = match kind.as_str() {
        "struct" | "enum" | "union" | "trait" | "type" | "fn" | "const" | "static" => {
            tokens[at + 1..].iter().find(|t| !t.is("mut"))?
        }
        "macro_rules" => tokens.get(at + 2)?,
        _ => return None,
    };
    // `const fn` is told by its `fn`.
    let is_name = name.is_word() && !matches!(name.text.as_str(), "fn" | "unsafe" | "async" | "_");
    is_name.then(|| Item {
        kind: kind.clone(),
        name: name.text.clone(),
        exported: at > 0 && tokens[at - 1].is("pub"),
        line: name.line,
    })
}

/// Whether `pub` or `pub(…)` stands before the keyword at `at`.
fn is_public(tokens: &[Token], at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else { return false };
    if tokens[before].is("pub") {
        return true;
    }
    let Some(open) = tokens[..at].iter().rposition(|t| t.is("(")) else { return false };
    tokens[before].is(")") && open > 0 && tokens[open - 1].is("pub")
}

/// The names that one `use` brings in: `a::{b, c::*, self as d}`.
fn use_tree(tree: &[Token], prefix: &[String], public: bool, uses: &mut Vec<Use>) {
    let mut path = prefix.to_vec();
    let mut at = 0;
    let mut renamed = None;
    let mut glob = false;
    while let Some(token) = tree.get(at) {
        match token.text.as_str() {
            "{" => {
                let end = closing(tree, at);
                for part in split_at_commas(&tree[at + 1..end]) {
                    use_tree(part, &path, public, uses);
                }
                return;
            }
            "as" => {
                renamed = tree.get(at + 1).map(|t| t.text.clone());
                break;
            }
            "*" => glob = true,
            "::" => {}
            "self" if !path.is_empty() => {}
            word => path.push(word.to_owned()),
        }
        at += 1;
    }
    if path.is_empty() {
        return;
    }
    let name = if glob { None } else { renamed.or_else(|| path.last().cloned()) };
    uses.push(Use { path, name, public });
}

/// The parts between the commas that are in no brackets.
pub(crate) fn split_at_commas(tokens: &[Token]) -> Vec<&[Token]> {
    let mut parts = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "{" | "(" | "[" => at = closing(tokens, at),
            "," => {
                parts.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    parts.push(&tokens[start..]);
    parts.retain(|part| !part.is_empty());
    parts
}

/// A crate from texts, for tests.
#[cfg(test)]
pub(crate) fn sample(files: &[(&str, &str)]) -> Crate {
    let read = |path: &Path| {
        let found = files.iter().find(|(name, _)| Path::new(name) == path);
        found.map(|(_, text)| (*text).to_owned())
    };
    Crate::read(files[0].0, &read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        if text.is_empty() { Vec::new() } else { text.split("::").map(str::to_owned).collect() }
    }

    fn tree() -> Crate {
        sample(&[
            ("core/x/src/lib.rs", "mod a; pub mod b { mod c; pub use c::Deep; } pub use a::Top;"),
            ("core/x/src/a.rs", "mod sub; pub use sub::*; pub struct Top; use crate::b as other;"),
            ("core/x/src/a/sub.rs", "pub(crate) enum Low {} #[cfg(test)] mod tests;"),
            ("core/x/src/b/c.rs", "pub fn f() {} pub const fn g() {} struct Deep; use std::fs;"),
        ])
    }

    #[test]
    fn modules_are_found_in_files_folders_and_braces() {
        let tree = tree();
        let names: Vec<String> = tree.modules.keys().map(|p| p.join("::")).collect();
        assert_eq!(names, ["", "a", "a::sub", "b", "b::c"]);
        let items: Vec<&str> =
            tree.modules[&path("b::c")].items.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(items, ["f", "g", "Deep"]);
        assert!(tree.modules[&path("b::c")].items[0].exported);
        assert!(!tree.modules[&path("a::sub")].items[0].exported);
    }

    #[test]
    fn a_path_leads_to_the_module_that_defines_the_item() {
        let tree = tree();
        let item = |from: &str, to: &str| tree.resolve(&path(from), &path(to));
        assert_eq!(item("b", "crate::Top"), Some(Target::Item(path("a"))));
        assert_eq!(item("", "a::Low"), Some(Target::Item(path("a::sub"))));
        assert_eq!(item("a::sub", "super::super::b::Deep"), Some(Target::Item(path("b::c"))));
        assert_eq!(item("a", "other::c::f"), Some(Target::Item(path("b::c"))));
        assert_eq!(item("a", "crate::b"), Some(Target::Module(path("b"))));
        assert_eq!(item("b::c", "fs::read"), None);
        assert_eq!(item("b::c", "bytes::Bytes"), None);
    }

    #[test]
    fn grouped_imports_are_taken_apart() {
        let mut uses = Vec::new();
        use_tree(&tokens("crate::{a::{self, B as C}, d::*}"), &[], false, &mut uses);
        let made: Vec<(String, Option<&str>)> =
            uses.iter().map(|u| (u.path.join("::"), u.name.as_deref())).collect();
        let expected = [
            ("crate::a".to_owned(), Some("a")),
            ("crate::a::B".to_owned(), Some("C")),
            ("crate::d".to_owned(), None),
        ];
        assert_eq!(made, expected);
    }
}

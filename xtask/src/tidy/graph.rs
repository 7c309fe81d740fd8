//! The layers: a crate imports only from lower rows, crates of one row never import each other,
//! and nothing in `core` reaches tokio.

use anyhow::{Context, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// The rows from the lowest up. A crate's folder does not decide; this table does.
const ROWS: &[&[&str]] = &[
    &["random"],
    &["proto", "vfs", "http2"],
    &["raft", "wal", "bolt"],
    &["backend"],
    &["auth"],
    &["mvcc", "lease", "cluster", "v2store"],
    &["watch", "wire"],
    &["member", "state"],
    &["executor"],
    &["server", "rpc", "net", "cli", "dns"],
    &["connection", "terminal"],
    &["api", "client", "peer", "load", "gateway"],
    &["grpcproxy"],
    &["embed"],
    &["etcd", "etcdctl", "etcdutl", "benchmark"],
    &["script", "ports", "nameserver"],
    &["sim", "conformance", "tour", "fuzz"],
    &["clients", "hostile", "dashboards"],
    &["xtask"],
];

/// The crates that `core` must not depend on, not even indirectly.
const IMPURE: [&str; 4] = ["tokio", "mio", "hyper", "tonic"];

/// cargo's view of the workspace.
#[derive(Debug)]
pub(crate) struct Metadata {
    packages: Vec<Package>,
    /// From the name of a crate from outside to those it needs, after `Cargo.lock`. Versions of
    /// one name count together.
    needs: BTreeMap<String, Vec<String>>,
}

#[derive(Debug)]
struct Package {
    name: String,
    /// The folder below the workspace.
    folder: String,
    dependencies: Vec<(String, Kind)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Normal,
    Build,
    Dev,
}

impl Metadata {
    /// Asks cargo, and reads `Cargo.lock`: both work without a network.
    ///
    /// # Errors
    /// When cargo fails or answers something else than its documented form.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
            .current_dir(root)
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        }
        let json: Value = serde_json::from_slice(&output.stdout)?;
        let lock = std::fs::read_to_string(root.join("Cargo.lock")).context("Cargo.lock")?;
        Self::parse(&json, &lock, root).context("cargo metadata has another form than expected")
    }

    fn parse(json: &Value, lock: &str, root: &Path) -> Option<Self> {
        let mut packages = Vec::new();
        for package in json["packages"].as_array()? {
            let manifest = Path::new(package["manifest_path"].as_str()?);
            let folder = manifest.parent()?.strip_prefix(root).ok()?;
            let mut dependencies = Vec::new();
            for dependency in package["dependencies"].as_array()? {
                let kind = match dependency["kind"].as_str() {
                    None => Kind::Normal,
                    Some("build") => Kind::Build,
                    Some(_) => Kind::Dev,
                };
                dependencies.push((dependency["name"].as_str()?.to_owned(), kind));
            }
            packages.push(Package {
                name: package["name"].as_str()?.to_owned(),
                folder: folder.display().to_string(),
                dependencies,
            });
        }
        Some(Self { packages, needs: needs(lock) })
    }

    /// The workspace's crates by name.
    pub(crate) fn members(&self) -> BTreeSet<String> {
        self.packages.iter().map(|package| package.name.clone()).collect()
    }

    /// The crates from outside that ours name.
    pub(crate) fn outside(&self) -> BTreeSet<String> {
        let ours = self.members();
        let named = self.packages.iter().flat_map(|package| &package.dependencies);
        named.map(|(name, _)| name.clone()).filter(|name| !ours.contains(name)).collect()
    }

    /// Faults of the layers.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let ours = self.members();
        for package in &self.packages {
            let folder = &package.folder;
            let Some(row) = row(&package.name) else {
                faults.push(format!("{folder}: the crate has no row in xtask/src/tidy/graph.rs"));
                continue;
            };
            for (name, kind) in &package.dependencies {
                if !ours.contains(name) || *kind == Kind::Dev {
                    continue;
                }
                match self::row(name) {
                    Some(lower) if lower < row => {}
                    _ => faults
                        .push(format!("{folder}: imports {name}, which is not in a lower row")),
                }
            }
            if folder.starts_with("core/")
                && let Some(impure) = self.reaches(package)
            {
                faults.push(format!("{folder}: core is pure, but it reaches {impure}"));
            }
        }
        faults
    }

    /// The first impure crate that a package needs at run time.
    fn reaches(&self, package: &Package) -> Option<String> {
        let normal = package.dependencies.iter().filter(|(_, kind)| *kind == Kind::Normal);
        let mut open: Vec<&str> = normal.map(|(name, _)| name.as_str()).collect();
        let mut seen = BTreeSet::new();
        while let Some(name) = open.pop() {
            if !seen.insert(name) {
                continue;
            }
            if IMPURE.contains(&name) {
                return Some(name.to_owned());
            }
            // Ours are checked on their own; what they need to build or test does not count.
            if self.packages.iter().all(|ours| ours.name != name) {
                open.extend(self.needs.get(name).into_iter().flatten().map(String::as_str));
            }
        }
        None
    }
}

/// The `dependencies` of each package in a `Cargo.lock`.
fn needs(lock: &str) -> BTreeMap<String, Vec<String>> {
    let mut needs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut package = String::new();
    for line in lock.lines() {
        if let Some(name) = line.strip_prefix("name = ") {
            name.trim_matches('"').clone_into(&mut package);
        } else if let Some(dependency) = line.strip_prefix(" \"") {
            let name = dependency.split(['"', ' ']).next().unwrap_or("");
            needs.entry(package.clone()).or_default().push(name.to_owned());
        }
    }
    needs
}

fn row(name: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn two(from: &str, to: &str, kind: Value) -> Vec<String> {
        let package = |name: &str, dependencies: Value| {
            json!({
                "name": name, "dependencies": dependencies,
                "manifest_path": format!("/w/core/{name}/Cargo.toml"),
            })
        };
        let lock = "name = \"harmless\"\ndependencies = [\n \"tokio 1.0.0\",\n]\n";
        let metadata = json!({
            "packages": [package(from, json!([{"name": to, "kind": kind}]))],
        });
        let mut metadata = Metadata::parse(&metadata, lock, Path::new("/w")).unwrap();
        if row(to).is_some() {
            let dependencies = Vec::new();
            let folder = format!("core/{to}");
            metadata.packages.push(Package { name: to.to_owned(), folder, dependencies });
        }
        metadata.faults()
    }

    #[test]
    fn only_lower_rows_may_be_imported() {
        assert_eq!(two("mvcc", "backend", Value::Null), Vec::<String>::new());
        let up = two("backend", "mvcc", Value::Null);
        assert_eq!(up, ["core/backend: imports mvcc, which is not in a lower row"]);
        let same = two("mvcc", "lease", json!("build"));
        assert_eq!(same, ["core/mvcc: imports lease, which is not in a lower row"]);
        assert_eq!(two("raft", "script", json!("dev")), Vec::<String>::new());
    }

    #[test]
    fn core_may_not_reach_tokio() {
        let fault = "core/wal: core is pure, but it reaches tokio";
        assert_eq!(two("wal", "tokio", Value::Null), [fault]);
        assert_eq!(two("wal", "harmless", Value::Null), [fault]);
        assert_eq!(two("wal", "harmless", json!("dev")), Vec::<String>::new());
    }
}

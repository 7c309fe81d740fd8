//! The rules that lints cannot hold: which crate may import which, what every file begins with,
//! how long it may be, and that the documents list what there is.

mod circles;
mod fields;
mod files;
mod graph;
mod metrics;
mod modules;
mod names;
mod tokens;

use std::path::Path;

/// All faults, each a line that names its place.
///
/// # Errors
/// When cargo's metadata or a file cannot be read.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let metadata = graph::Metadata::read(root)?;
    let mut faults = metadata.faults();
    let sources = files::sources(root)?;
    faults.extend(files::faults(&sources));
    faults.extend(metrics::faults(root, &sources)?);
    faults.extend(files::documents(root, &metadata.members(), &metadata.outside())?);
    let crates = crates(root)?;
    faults.extend(circles::faults(&crates));
    faults.extend(fields::faults(&crates));
    faults.extend(names::faults(&crates));
    faults.extend(crate::mutate::faults(root)?);
    faults.sort();
    Ok(faults)
}

/// Every library and program of the workspace.
fn crates(root: &Path) -> anyhow::Result<Vec<modules::Crate>> {
    let read = |file: &Path| std::fs::read_to_string(root.join(file)).ok();
    let roots = files::crate_roots(root)?;
    Ok(roots.iter().map(|file| modules::Crate::read(file, &read)).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        let faults = super::check(&crate::root()).unwrap();
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }
}

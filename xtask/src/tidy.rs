//! The rules that lints cannot hold: which crate may import which, what every file begins with,
//! how long it may be, and that the documents list what there is.

mod files;
mod graph;

use std::path::Path;

/// All faults, each a line that names its place.
///
/// # Errors
/// When cargo's metadata or a file cannot be read.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let metadata = graph::Metadata::read(root)?;
    let mut faults = metadata.faults();
    faults.extend(files::sources(root)?);
    faults.extend(files::documents(root, &metadata.members(), &metadata.outside())?);
    faults.sort();
    Ok(faults)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        let faults = super::check(&crate::root()).unwrap();
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }
}

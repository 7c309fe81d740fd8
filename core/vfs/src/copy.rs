//! Copies between file systems, holes kept: from a real directory onto a simulated disk, and an
//! image of a crash onto a real one, for a Go etcd to look at. And directories made durable.

use crate::{Mode, Vfs};
use std::io;
use std::path::{Path, PathBuf};

const PIECE: usize = 256 * 1024;
static ZEROS: [u8; PIECE] = [0; PIECE];

/// Copies a file or a directory with all that is in it. Nothing of the copy is synced.
///
/// # Errors
/// As the file systems say.
pub fn copy_tree(from: &dyn Vfs, source: &Path, to: &dyn Vfs, target: &Path) -> io::Result<()> {
    let Ok(names) = from.list(source) else {
        return copy_file(from, source, to, target);
    };
    to.create_dir_all(target)?;
    for name in names {
        copy_tree(from, &source.join(&name), to, &target.join(&name))?;
    }
    Ok(())
}

/// Copies one file over whatever is in its place, holes kept. The copy is not synced.
///
/// # Errors
/// As the file systems say.
pub fn copy_file(from: &dyn Vfs, source: &Path, to: &dyn Vfs, target: &Path) -> io::Result<()> {
    let source = from.open(source, Mode::Read)?;
    let target = to.open(target, Mode::Create)?;
    target.set_len(0)?;
    let mut buf = vec![0; PIECE];
    let mut offset = 0;
    loop {
        let count = source.read_at(&mut buf, offset)?;
        if count == 0 {
            return target.set_len(offset);
        }
        if buf[..count] != ZEROS[..count] {
            target.write_at(&buf[..count], offset)?;
        }
        offset += count as u64;
    }
}

/// Makes a directory and those above it that are missing, and makes their names durable.
///
/// # Errors
/// As the operating system says.
pub fn create_dir_durable(vfs: &dyn Vfs, dir: &Path) -> io::Result<()> {
    let mut missing: Vec<PathBuf> = Vec::new();
    for above in dir.ancestors() {
        if above.as_os_str().is_empty() || vfs.exists(above)? {
            break;
        }
        missing.push(above.to_path_buf());
    }
    vfs.create_dir_all(dir)?;
    for made in missing.iter().rev() {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
        vfs.sync_dir(parent.unwrap_or_else(|| Path::new(".")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RealDisk, SimDisk};

    #[test]
    fn a_tree_goes_to_a_real_disk_and_back() {
        let sim = SimDisk::new(1);
        create_dir_durable(&sim, Path::new("/a/b")).unwrap();
        let file = sim.open(Path::new("/a/b/f"), Mode::CreateNew).unwrap();
        file.allocate(1_000_000).unwrap();
        file.write_at(b"middle", 500_000).unwrap();
        let dir = tempfile::tempdir().unwrap();
        copy_tree(&sim, Path::new("/a"), &RealDisk, &dir.path().join("x")).unwrap();
        copy_tree(&RealDisk, &dir.path().join("x"), &sim, Path::new("/c")).unwrap();
        let back = sim.open(Path::new("/c/b/f"), Mode::Read).unwrap();
        assert_eq!(back.len().unwrap(), 1_000_000);
        let mut bytes = [0; 8];
        back.read_at(&mut bytes, 499_999).unwrap();
        assert_eq!(&bytes, b"\0middle\0");
    }

    #[test]
    fn a_directory_made_durable_survives_with_those_above_it() {
        let sim = SimDisk::new(1);
        create_dir_durable(&sim, Path::new("/a/b/c")).unwrap();
        for seed in 0..20 {
            assert!(sim.crash_image(seed).exists(Path::new("/a/b/c")).unwrap());
        }
    }
}

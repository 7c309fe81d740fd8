//! Copies of files and trees between file systems (a real directory to a simulated disk, a crash
//! image to a real directory), and creation of durable directories.

use crate::{Mode, Vfs};
use std::io;
use std::path::{Path, PathBuf};

const PIECE: usize = 256 * 1024;
static ZEROS: [u8; PIECE] = [0; PIECE];

/// Copies a file, or a directory with its contents. The copy is not synced.
///
/// # Errors
/// Errors of either file system.
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

/// Copies one file and replaces the target. Blocks of zeros become holes. The copy is not synced.
///
/// # Errors
/// Errors of either file system.
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

/// Creates a directory and its missing parents, and syncs the directories that contain them.
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
    fn a_tree_is_copied_to_a_real_disk_and_back() {
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
    fn a_durable_directory_and_its_parents_survive_a_crash() {
        let sim = SimDisk::new(1);
        create_dir_durable(&sim, Path::new("/a/b/c")).unwrap();
        for seed in 0..20 {
            assert!(sim.crash_image(seed).exists(Path::new("/a/b/c")).unwrap());
        }
    }
}

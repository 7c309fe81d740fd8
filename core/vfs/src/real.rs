//! The real disk.
use crate::{File, Mode, Vfs};
/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

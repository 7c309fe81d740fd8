//! A simulated disk.
/// Not written yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct SimDisk;

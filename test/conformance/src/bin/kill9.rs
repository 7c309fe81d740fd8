//! Kills a server under load, again and again.
fn main() {}

//! rpc: not written yet.

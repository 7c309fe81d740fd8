//! TLS: both sides of a handshake, and the files for them.
//!
//! - [`ServerTls`] accepts connections, [`ClientTls`] makes them.
//! - The files are read again when they have changed. If a changed file is not valid, the previous
//!   configuration stays in use, a warning is logged, and [`failed_reloads`] counts it.
//! - Sessions are not resumed, so that every handshake checks the certificate of the other side
//!   with the current authorities and revocations.
//!
//! Source of the rules: etcd client/pkg/transport/{listener,listener_tls}.go and
//! client/pkg/tlsutil @ v3.7.1.

mod client;
mod crypto;
mod error;
mod files;
mod names;
mod security;
mod self_signed;
mod server;
mod source;
mod stream;
mod verify;

pub use client::{ClientOptions, ClientTls};
pub use crypto::{Crypto, Version};
pub use error::{HandshakeError, TlsError};
pub use files::KeyPair;
pub use security::{Security, log_rejected, rejected_connections};
pub use self_signed::{NO_VALIDITY, self_signed};
pub use server::{ServerOptions, ServerTls};
pub use stream::Stream;
pub use verify::Allowed;

/// The files that are read again when they change.
static FILES: crate::FileKind = crate::FileKind::new("TLS files");

/// How many times changed files were not valid since the process started.
#[must_use]
pub fn failed_reloads() -> u64 {
    FILES.failed_reloads()
}

#[cfg(test)]
mod tests;

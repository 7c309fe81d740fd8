//! The side that accepts connections.

use super::files::{KeyPair, RevokedSerials, authorities, content, system_authorities};
use super::names::Names;
use super::verify::{OfClients, Rules};
use super::{Allowed, Crypto, FILES, HandshakeError, Stream, TlsError, source};
use crate::Reloaded;
use crate::limits::HANDSHAKE_TIME_MAX;
use crate::socket::{RemoteName, SocketStream};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// The server's certificate, and the requirements for clients' certificates.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The server's certificate.
    pub pair: KeyPair,
    /// The authorities of clients' certificates.
    pub trusted_ca: Option<PathBuf>,
    /// Whether clients need a certificate. They also need one if there is a `trusted_ca`. Without
    /// that file, the authorities of the operating system are trusted.
    pub client_cert_auth: bool,
    /// Serial numbers of certificates that are revoked.
    pub crl: Option<PathBuf>,
    /// Which certificates of clients are allowed.
    pub allowed: Allowed,
    /// Versions and cipher suites.
    pub crypto: Crypto,
    /// The application protocols of the server (ALPN), by preference. If empty, the protocols that
    /// clients offer are ignored.
    pub protocols: Vec<&'static str>,
    /// Whether a client's certificate has to fit the address that it comes from.
    pub checks_source: bool,
}

impl ServerOptions {
    /// A server that asks no certificates of its clients.
    #[must_use]
    pub fn new(pair: KeyPair) -> ServerOptions {
        ServerOptions {
            pair,
            trusted_ca: None,
            client_cert_auth: false,
            crl: None,
            allowed: Allowed::All,
            crypto: Crypto::default(),
            protocols: Vec::new(),
            checks_source: false,
        }
    }

    /// Whether clients need a certificate.
    #[must_use]
    pub fn needs_certificates(&self) -> bool {
        self.client_cert_auth || self.trusted_ca.is_some()
    }

    fn files(&self) -> Vec<PathBuf> {
        let more = self.trusted_ca.iter().chain(&self.crl).cloned();
        self.pair.paths().into_iter().chain(more).collect()
    }

    fn accepting(&self) -> Result<Accepting, TlsError> {
        let identity = self.pair.read()?;
        let expires_unix_s = identity.expires_unix_s();
        let provider = self.crypto.provider();
        let wrong = |error: rustls::Error| TlsError::Settings(format!("tls: {error}"));
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.crypto.versions())
            .map_err(wrong)?;
        let builder = if self.needs_certificates() {
            builder.with_client_cert_verifier(Arc::new(self.verifier(provider)?))
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder
            .with_single_cert(identity.chain, identity.key)
            .map_err(|error| content(&self.pair.key, pair_error(&error)))?;
        config.alpn_protocols = self.protocols.iter().map(|name| name.as_bytes().into()).collect();
        // Without resumption, every connection's certificate is checked.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Accepting { config: Arc::new(config), expires_unix_s })
    }

    fn verifier(&self, provider: Arc<CryptoProvider>) -> Result<OfClients, TlsError> {
        let roots = self.trusted_ca.as_deref().map_or_else(system_authorities, authorities)?;
        let revoked = self.crl.as_deref().map(RevokedSerials::read).transpose()?;
        let authorities =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let authorities = authorities
            .map_err(|error| TlsError::Settings(format!("x509: trusted authorities: {error}")))?;
        let rules = Rules { allowed: self.allowed.clone(), revoked: revoked.unwrap_or_default() };
        Ok(OfClients { authorities, rules })
    }
}

/// What is wrong with a key and its certificate, in Go's words where it has some.
pub(super) fn pair_error(error: &rustls::Error) -> String {
    if matches!(error, rustls::Error::InconsistentKeys(_)) {
        return "tls: private key does not match public key".to_owned();
    }
    format!("tls: {error}")
}

/// What is made of the files.
struct Accepting {
    config: Arc<ServerConfig>,
    /// When the first certificate of the server's chain expires, in seconds since 1970.
    expires_unix_s: i64,
}

/// Accepts TLS connections.
pub struct ServerTls {
    options: ServerOptions,
    config: Reloaded<Accepting, TlsError>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("options", &self.options).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file cannot be read or is not valid, or the settings do not fit together.
    pub fn new(options: ServerOptions) -> Result<ServerTls, TlsError> {
        let of_config = options.clone();
        let config =
            Reloaded::new(&FILES, options.files(), Box::new(move || of_config.accepting()))?;
        Ok(ServerTls { options, config })
    }

    /// The settings.
    #[must_use]
    pub fn options(&self) -> &ServerOptions {
        &self.options
    }

    /// When the server's certificate expires, or the first of its issuers in the same file: in
    /// seconds since 1970.
    #[must_use]
    pub fn expires_unix_s(&self) -> i64 {
        self.config.current().expires_unix_s
    }

    /// Makes the handshake, within [`HANDSHAKE_TIME_MAX`], and checks the client. A client on this
    /// machine that comes through a unix socket has no address that its certificate could fit.
    ///
    /// # Errors
    /// [`HandshakeError`]; the connection is closed then.
    pub async fn accept(&self, socket: impl Into<SocketStream>) -> Result<Stream, HandshakeError> {
        tokio::time::timeout(HANDSHAKE_TIME_MAX, self.handshake(socket.into()))
            .await
            .unwrap_or(Err(HandshakeError::Timeout))
    }

    async fn handshake(&self, socket: SocketStream) -> Result<Stream, HandshakeError> {
        let closed = || HandshakeError::Io(std::io::ErrorKind::NotConnected.into());
        let from = match socket.remote().ok_or_else(closed)? {
            RemoteName::Address(address) => Some(address.ip()),
            RemoteName::Local => None,
        };
        let acceptor = TlsAcceptor::from(Arc::clone(&self.config.current().config));
        let stream = acceptor.accept(socket).await.map_err(HandshakeError::Io)?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let names = certificate.and_then(Names::of);
        if let (Some(names), Some(from), true) = (names.clone(), from, self.options.checks_source) {
            source::check(names, from).await.map_err(HandshakeError::Source)?;
        }
        let names = names.filter(|_| self.options.client_cert_auth);
        let common_name = names.map(|names| names.common).filter(|name| !name.is_empty());
        Ok(Stream::Tls { stream: Box::new(stream), common_name })
    }
}

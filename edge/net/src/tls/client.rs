//! The side that makes connections.

use super::files::{KeyPair, authorities, content, system_authorities};
use super::server::pair_error;
use super::verify::{OfAnyServer, OfServers, Rules};
use super::{Allowed, Crypto, FILES, HandshakeError, TlsError};
use crate::Reloaded;
use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The client's certificate, and the requirements for servers' certificates.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// The client's certificate.
    pub pair: Option<KeyPair>,
    /// The authorities of servers' certificates; those of the operating system where it is `None`.
    pub trusted_ca: Option<PathBuf>,
    /// The name that a server's certificate has to have, instead of the host that is connected to.
    pub server_name: Option<String>,
    /// Takes the certificate of every server.
    pub skips_verification: bool,
    /// Which certificates of servers are allowed.
    pub allowed: Allowed,
    /// Versions and cipher suites.
    pub crypto: Crypto,
    /// The application protocols that are offered (ALPN).
    pub protocols: Vec<&'static str>,
}

impl ClientOptions {
    fn files(&self) -> Vec<PathBuf> {
        let pair = self.pair.iter().flat_map(KeyPair::paths);
        pair.chain(self.trusted_ca.clone()).collect()
    }

    fn config(&self) -> Result<ClientConfig, TlsError> {
        let provider = self.crypto.provider();
        let verifier = self.verifier(&provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.crypto.versions())
            .map_err(|error| TlsError::Settings(format!("tls: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let identity = pair.read()?;
                builder
                    .with_client_auth_cert(identity.chain, identity.key)
                    .map_err(|error| content(&pair.key, pair_error(&error)))?
            }
        };
        config.alpn_protocols = self.protocols.iter().map(|name| name.as_bytes().into()).collect();
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    pub(super) fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        if self.skips_verification {
            return Ok(Arc::new(OfAnyServer(provider.signature_verification_algorithms)));
        }
        let roots = self.trusted_ca.as_deref().map_or_else(system_authorities, authorities)?;
        let authorities =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let authorities = authorities
            .build()
            .map_err(|error| TlsError::Settings(format!("x509: trusted authorities: {error}")))?;
        let rules = Rules { allowed: self.allowed.clone(), ..Rules::default() };
        Ok(Arc::new(OfServers { authorities, rules }))
    }
}

/// Makes TLS connections.
pub struct ClientTls {
    options: ClientOptions,
    config: Reloaded<ClientConfig, TlsError>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("options", &self.options).finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file cannot be read or is not valid, or the settings do not fit together.
    pub fn new(options: ClientOptions) -> Result<ClientTls, TlsError> {
        let of_config = options.clone();
        let config = Reloaded::new(&FILES, options.files(), Box::new(move || of_config.config()))?;
        Ok(ClientTls { options, config })
    }

    /// Makes the handshake with a server at `host`, a name or an address without brackets. There
    /// is no time limit here.
    ///
    /// # Errors
    /// [`HandshakeError`]. With TLS 1.3 a server that refuses the client says so only when the
    /// connection is used.
    pub async fn connect<I>(&self, io: I, host: &str) -> Result<TlsStream<I>, HandshakeError>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let host = self.options.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| HandshakeError::Io(io::Error::other(format!("tls: bad host {host:?}"))))?;
        let connector = TlsConnector::from(self.config.current());
        connector.connect(name, io).await.map_err(HandshakeError::Io)
    }
}

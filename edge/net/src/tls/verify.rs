//! The checks of the other side's certificate: the authorities first, then etcd's own rules.

use super::files::RevokedSerials;
use super::names::{Names, is_valid_for};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError};
use rustls::{SignatureScheme, client};
use std::fmt;
use std::sync::Arc;

/// Which certificates of those that an authority has issued are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Allowed {
    /// All.
    #[default]
    All,
    /// Those with one of these common names.
    CommonNames(Vec<String>),
    /// Those that are valid for one of these host names or addresses.
    Hostnames(Vec<String>),
}

/// etcd's rules for a certificate that an authority has issued.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) allowed: Allowed,
    pub(super) revoked: RevokedSerials,
}

/// A rule that a certificate breaks.
#[derive(Debug)]
enum Broken {
    NotAllowed,
    Revoked(Vec<u8>),
    Unreadable,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::NotAllowed => f.write_str("client certificate authentication failed"),
            Broken::Revoked(serial) => {
                f.write_str("transport: certificate serial ")?;
                serial.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str(" revoked")
            }
            Broken::Unreadable => f.write_str("x509: malformed certificate"),
        }
    }
}

impl std::error::Error for Broken {}

impl Rules {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        match self.broken(leaf, issuers) {
            None => Ok(()),
            Some(broken) => {
                let error = CertificateError::Other(OtherError(Arc::new(broken)));
                Err(Error::InvalidCertificate(error))
            }
        }
    }

    fn broken(&self, leaf: &CertificateDer<'_>, issuers: &[CertificateDer<'_>]) -> Option<Broken> {
        let Some(names) = Names::of(leaf) else { return Some(Broken::Unreadable) };
        let is_allowed = match &self.allowed {
            Allowed::All => true,
            Allowed::CommonNames(allowed) => allowed.contains(&names.common),
            Allowed::Hostnames(allowed) => allowed.iter().any(|host| is_valid_for(leaf, host)),
        };
        if !is_allowed {
            return Some(Broken::NotAllowed);
        }
        for certificate in std::iter::once(leaf).chain(issuers) {
            let Some(names) = Names::of(certificate) else { return Some(Broken::Unreadable) };
            if self.revoked.contains(&names.serial) {
                return Some(Broken::Revoked(names.serial));
            }
        }
        None
    }
}

/// Checks certificates of clients.
#[derive(Debug)]
pub(super) struct OfClients {
    pub(super) authorities: Arc<dyn ClientCertVerifier>,
    pub(super) rules: Rules,
}

impl ClientCertVerifier for OfClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authorities.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.authorities.verify_client_cert(leaf, issuers, now)?;
        self.rules.check(leaf, issuers)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// Checks certificates of servers.
#[derive(Debug)]
pub(super) struct OfServers {
    pub(super) authorities: Arc<client::WebPkiServerVerifier>,
    pub(super) rules: Rules,
}

impl ServerCertVerifier for OfServers {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.authorities.verify_server_cert(leaf, issuers, name, ocsp, now)?;
        self.rules.check(leaf, issuers)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// Takes every certificate of a server, as the user has asked. The server still has to have the
/// key of its certificate.
#[derive(Debug)]
pub(super) struct OfAnyServer(pub(super) WebPkiSupportedAlgorithms);

impl ServerCertVerifier for OfAnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

//! Reads certificates, keys, authorities and revocations from files.

use super::TlsError;
use super::names::Names;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

/// The files of a certificate, with those of its issuers behind it, and of its key. Both are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// The certificate.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// What the files of a [`KeyPair`] hold.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// Serial numbers of revoked certificates, without leading zeros.
#[derive(Debug, Default)]
pub(super) struct RevokedSerials(BTreeSet<Vec<u8>>);

impl Identity {
    /// When the first certificate of the chain expires, in seconds since 1970; the largest number
    /// if none can be read.
    pub(super) fn expires_unix_s(&self) -> i64 {
        let of = |der: &CertificateDer<'_>| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            Some(certificate.validity().not_after.timestamp())
        };
        self.chain.iter().filter_map(of).min().unwrap_or(i64::MAX)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

pub(super) fn content(path: &Path, what: impl Into<String>) -> TlsError {
    TlsError::Content { path: path.to_owned(), what: what.into() }
}

impl KeyPair {
    pub(super) fn read(&self) -> Result<Identity, TlsError> {
        let chain = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|_| content(&self.key, "tls: failed to find any PEM data in key input"))?;
        Ok(Identity { chain, key })
    }

    /// The common name in the certificate; empty if it has none.
    ///
    /// # Errors
    /// When the file cannot be read, or has no certificate.
    pub fn common_name(&self) -> Result<String, TlsError> {
        let chain = certificates(&self.cert)?;
        let names = chain.first().and_then(Names::of);
        let names = names.ok_or_else(|| content(&self.cert, "x509: malformed certificate"))?;
        Ok(names.common)
    }

    pub(super) fn paths(&self) -> [PathBuf; 2] {
        [self.cert.clone(), self.key.clone()]
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| content(path, format!("tls: {error}")))?;
    if found.is_empty() {
        return Err(content(path, "tls: failed to find any PEM data in certificate input"));
    }
    Ok(found)
}

/// The authorities of a file.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| content(path, format!("x509: {error}")))?;
    }
    Ok(roots)
}

/// The authorities of the operating system.
pub(super) fn system_authorities() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    // As in Go, an authority that cannot be read is left out: the certificates that it has issued
    // are not trusted.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let what = "x509: the system has no authorities; name a file with trusted ones";
        return Err(TlsError::Settings(what.to_owned()));
    }
    Ok(roots)
}

impl RevokedSerials {
    /// Reads a list in PEM or DER. As in etcd, neither its signature nor its time is checked.
    pub(super) fn read(path: &Path) -> Result<RevokedSerials, TlsError> {
        let bytes = read(path)?;
        let der = match CertificateRevocationListDer::from_pem_slice(&bytes) {
            Ok(list) => list.as_ref().to_vec(),
            Err(_) => bytes,
        };
        let (_, list) = CertificateRevocationList::from_der(&der)
            .map_err(|_| content(path, "x509: malformed certificate revocation list"))?;
        let serials = list.iter_revoked_certificates().map(|it| significant(it.raw_serial()));
        Ok(RevokedSerials(serials.collect()))
    }

    /// Whether the list has a certificate of this serial number.
    pub(super) fn contains(&self, serial: &[u8]) -> bool {
        self.0.contains(&significant(serial))
    }
}

fn significant(serial: &[u8]) -> Vec<u8> {
    serial.iter().copied().skip_while(|byte| *byte == 0).collect()
}

//! Certificates for `--auto-tls` and `--peer-auto-tls`: self-signed, kept for later starts.
//!
//! Source: etcd client/pkg/transport/listener.go @ v3.7.1 (`SelfCert`).

use super::TlsError;
use super::files::KeyPair;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, PKCS_ECDSA_P521_SHA512,
};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The error when a certificate would be valid for no time.
pub const NO_VALIDITY: &str = "selfSignedCertValidity is invalid,it should be greater than 0";

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The certificate and the key in `dir`; they are made if they are not there yet. `hosts` are the
/// names and addresses that the certificate has.
///
/// # Errors
/// When `years` is 0, or a file cannot be written.
pub fn self_signed(dir: &Path, hosts: &[String], years: u64) -> Result<KeyPair, TlsError> {
    if years == 0 {
        return Err(TlsError::Settings(NO_VALIDITY.to_owned()));
    }
    let pair = KeyPair { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
    if pair.cert.exists() && pair.key.exists() {
        return Ok(pair);
    }
    let failed =
        |error: rcgen::Error| TlsError::Settings(format!("cannot make a certificate: {error}"));
    let mut params = CertificateParams::new(hosts).map_err(failed)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    let now = SystemTime::now();
    let lifetime = u32::try_from(years).ok().and_then(|years| YEAR.checked_mul(years));
    let end = lifetime.and_then(|lifetime| now.checked_add(lifetime));
    let end = end.filter(|end| *end < SystemTime::UNIX_EPOCH + 8_000 * YEAR).ok_or_else(|| {
        TlsError::Settings(format!("--self-signed-cert-validity of {years} years is too long"))
    })?;
    (params.not_before, params.not_after) = (now.into(), end.into());
    params.key_usages = vec![KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = rcgen::KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    tracing::warn!(years, "automatically generate certificates");
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| TlsError::File { path, source }
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(file(dir))?;
    write(&pair.cert, &certificate.pem(), 0o644).map_err(file(&pair.cert))?;
    tracing::info!(path = %pair.cert.display(), "created cert file");
    write(&pair.key, &key.serialize_pem(), 0o600).map_err(file(&pair.key))?;
    tracing::info!(path = %pair.key.display(), "created key file");
    Ok(pair)
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

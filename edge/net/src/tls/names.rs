//! The names in a certificate.

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use std::net::IpAddr;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// The names of a certificate, and its serial number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) common: String,
    pub(super) dns: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) serial: Vec<u8>,
}

impl Names {
    /// `None` if the certificate cannot be read.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Names> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let common = parsed.subject().iter_common_name().last();
        let common = common.map_or("", |name| name.as_str().unwrap_or_default()).to_owned();
        let mut names = Names { common, serial: parsed.raw_serial().to_vec(), ..Names::default() };
        let alternatives = parsed.subject_alternative_name().ok()?;
        for name in alternatives.iter().flat_map(|it| &it.value.general_names) {
            if let GeneralName::DNSName(name) = name {
                names.dns.push((*name).to_owned());
            } else if let GeneralName::IPAddress(bytes) = name {
                let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from).ok();
                let address = four.or_else(|| <[u8; 16]>::try_from(*bytes).map(IpAddr::from).ok());
                names.addresses.extend(address);
            }
        }
        Some(names)
    }
}

/// Whether a certificate is valid for a host name or an address, as for a server's.
pub(super) fn is_valid_for(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let Ok(name) = ServerName::try_from(host) else { return false };
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, &name).is_ok())
}

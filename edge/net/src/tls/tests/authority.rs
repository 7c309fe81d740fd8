//! Authorities and certificates for tests.

use crate::tls::KeyPair;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair as Key, KeyUsagePurpose, RevokedCertParams,
    SerialNumber,
};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The times from which and until which a certificate is valid.
type Valid = (SystemTime, SystemTime);

/// From so many days after now until so many.
pub(super) fn days(from: i64, to: i64) -> Valid {
    let day = |days: i64| {
        let time = Duration::from_secs(days.unsigned_abs() * 24 * 60 * 60);
        if days < 0 { SystemTime::now() - time } else { SystemTime::now() + time }
    };
    (day(from), day(to))
}

/// A certificate as it is wanted.
pub(super) struct Wish<'a> {
    pub(super) common: &'a str,
    pub(super) hosts: &'a [&'a str],
    pub(super) valid: Valid,
    pub(super) is_for_clients: bool,
    pub(super) is_for_servers: bool,
    pub(super) serial: u64,
}

impl Default for Wish<'_> {
    /// Good for everything that the tests do.
    fn default() -> Self {
        Wish {
            common: "",
            hosts: &["127.0.0.1"],
            valid: days(-1, 1),
            is_for_clients: true,
            is_for_servers: true,
            serial: 7,
        }
    }
}

impl Wish<'_> {
    fn params(&self) -> CertificateParams {
        let hosts: Vec<String> = self.hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !self.common.is_empty() {
            params.distinguished_name.push(DnType::CommonName, self.common);
        }
        (params.not_before, params.not_after) = (self.valid.0.into(), self.valid.1.into());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if self.is_for_clients {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        if self.is_for_servers {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.serial_number = Some(SerialNumber::from(self.serial));
        params
    }
}

/// A certificate, with those of its issuers behind it, and its key, in PEM.
pub(super) struct Issued {
    pub(super) cert: String,
    pub(super) key: String,
    params: CertificateParams,
}

impl Issued {
    /// Writes both to files of this name.
    pub(super) fn write(&self, folder: &Path, name: &str) -> KeyPair {
        let file = |end: &str| folder.join(format!("{name}{end}"));
        let pair = KeyPair { cert: file(".pem"), key: file("-key.pem") };
        std::fs::write(&pair.cert, &self.cert).unwrap();
        std::fs::write(&pair.key, &self.key).unwrap();
        pair
    }

    /// An issuer that signs certificates with this one, although it is not an authority's.
    pub(super) fn as_issuer(&self) -> Authority {
        let key = Key::from_pem(&self.key).unwrap();
        Authority(CertifiedIssuer::self_signed(self.params.clone(), key).unwrap())
    }

    pub(super) fn with_issuers(mut self, issuers: &[&str]) -> Issued {
        issuers.iter().for_each(|issuer| self.cert.push_str(issuer));
        self
    }
}

pub(super) struct Authority(CertifiedIssuer<'static, Key>);

fn authority_params(name: &str, serial: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from(serial));
    params
}

impl Authority {
    pub(super) fn new(name: &str) -> Authority {
        let key = Key::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(authority_params(name, 1), key).unwrap())
    }

    /// An authority below this one; the serial number of its certificate is 2.
    pub(super) fn subordinate(&self, name: &str) -> Authority {
        let (params, key) = (authority_params(name, 2), Key::generate().unwrap());
        Authority(CertifiedIssuer::signed_by(params, key, &self.0).unwrap())
    }

    /// Its certificate.
    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(super) fn issue(&self, wish: &Wish<'_>) -> Issued {
        let (params, key) = (wish.params(), Key::generate().unwrap());
        let cert = params.signed_by(&key, &self.0).unwrap().pem();
        Issued { cert, key: key.serialize_pem(), params }
    }

    pub(super) fn self_signed(wish: &Wish<'_>) -> Issued {
        let (params, key) = (wish.params(), Key::generate().unwrap());
        let cert = params.self_signed(&key).unwrap().pem();
        Issued { cert, key: key.serialize_pem(), params }
    }

    /// A list of revoked certificates, in PEM and in DER.
    pub(super) fn revoke(&self, serials: &[u64]) -> (String, Vec<u8>) {
        let (now, later) = days(-1, 1);
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: later.into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.0).unwrap();
        (list.pem().unwrap(), list.der().to_vec())
    }
}

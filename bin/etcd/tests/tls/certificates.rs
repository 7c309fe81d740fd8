//! Certificates for tests: good ones, and every kind of bad ones.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair as Key, KeyUsagePurpose, NameConstraints,
    RevokedCertParams, SerialNumber,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// From when to when something is valid.
pub(crate) type Valid = (SystemTime, SystemTime);

/// From a day to another, counted from now.
pub(crate) fn days(from: i64, to: i64) -> Valid {
    let day = |days: i64| {
        let time = Duration::from_secs(days.unsigned_abs() * 24 * 60 * 60);
        if days < 0 { SystemTime::now() - time } else { SystemTime::now() + time }
    };
    (day(from), day(to))
}

/// A certificate of a client or a server, as it is wanted.
#[derive(Clone)]
pub(crate) struct Wish {
    pub(crate) common: &'static str,
    pub(crate) hosts: Vec<&'static str>,
    pub(crate) valid: Valid,
    /// What it is for: `client`, `server`, `code`.
    pub(crate) purposes: Vec<&'static str>,
    pub(crate) serial: u64,
    pub(crate) is_ca: bool,
}

/// The serial numbers of [`Wish::default`], and of what is revoked.
pub(crate) const SERIAL: u64 = 7;
pub(crate) const REVOKED: u64 = 9;

impl Default for Wish {
    /// Good for everything that the tests do.
    fn default() -> Self {
        Wish {
            common: "alice",
            hosts: vec!["127.0.0.1", "localhost"],
            valid: days(-1, 1),
            purposes: vec!["client", "server"],
            serial: SERIAL,
            is_ca: false,
        }
    }
}

impl Wish {
    fn params(&self) -> CertificateParams {
        let hosts: Vec<String> = self.hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !self.common.is_empty() {
            params.distinguished_name.push(DnType::CommonName, self.common);
        }
        (params.not_before, params.not_after) = (self.valid.0.into(), self.valid.1.into());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = self
            .purposes
            .iter()
            .map(|purpose| match *purpose {
                "client" => ExtendedKeyUsagePurpose::ClientAuth,
                "server" => ExtendedKeyUsagePurpose::ServerAuth,
                "code" => ExtendedKeyUsagePurpose::CodeSigning,
                other => panic!("no purpose {other}"),
            })
            .collect();
        params.serial_number = Some(SerialNumber::from(self.serial));
        if self.is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params
    }
}

/// A certificate and those of its issuers, and a key, which need not fit.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    params: CertificateParams,
}

impl Identity {
    fn new(certificate: &rcgen::Certificate, key: &Key, params: CertificateParams) -> Identity {
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        Identity { chain: vec![certificate.der().clone()], key, params }
    }

    /// The same with this certificate behind it.
    pub(crate) fn with(mut self, issuer: &CertificateDer<'static>) -> Identity {
        self.chain.push(issuer.clone());
        self
    }

    /// The same with another first certificate.
    pub(crate) fn presenting(mut self, der: &[u8]) -> Identity {
        self.chain[0] = CertificateDer::from(der.to_vec());
        self
    }

    /// The same with the key of another one.
    pub(crate) fn with_key_of(mut self, other: &Identity) -> Identity {
        self.key = other.key.clone_key();
        self
    }

    /// An issuer with this key and name, although this is no authority's certificate.
    pub(crate) fn as_issuer(&self) -> Authority {
        let key = Key::try_from(self.key.secret_der()).unwrap();
        Authority(CertifiedIssuer::self_signed(self.params.clone(), key).unwrap())
    }

    /// Writes both to files of this name: the certificates, and the key.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> net::tls::KeyPair {
        let file = |end: &str| folder.join(format!("{name}{end}"));
        let pair = net::tls::KeyPair { cert: file(".pem"), key: file("-key.pem") };
        let chain: Vec<String> = self.chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
        replace(&pair.cert, chain.concat());
        replace(&pair.key, pem("PRIVATE KEY", self.key.secret_der()));
        pair
    }
}

/// Replaces a file in one step, as a careful operator does.
pub(crate) fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(new, path).unwrap();
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// How an authority's certificate differs from a good one.
#[derive(Default)]
pub(crate) struct Faults {
    /// It may have so many authorities below it.
    pub(crate) path_len: Option<u8>,
    pub(crate) names: Option<NameConstraints>,
    pub(crate) valid: Option<Valid>,
    pub(crate) serial: Option<u64>,
    /// It has no flag that it is an authority's.
    pub(crate) is_none: bool,
    pub(crate) purposes: Vec<ExtendedKeyUsagePurpose>,
}

pub(crate) struct Authority(CertifiedIssuer<'static, Key>);

fn authority_params(name: &str, faults: Faults) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = match faults.path_len {
        _ if faults.is_none => IsCa::ExplicitNoCa,
        Some(len) => IsCa::Ca(BasicConstraints::Constrained(len)),
        None => IsCa::Ca(BasicConstraints::Unconstrained),
    };
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = faults.names;
    params.extended_key_usages = faults.purposes;
    params.serial_number = Some(SerialNumber::from(faults.serial.unwrap_or(2)));
    let valid = faults.valid.unwrap_or_else(|| days(-1, 1));
    (params.not_before, params.not_after) = (valid.0.into(), valid.1.into());
    params
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let params = authority_params(name, Faults::default());
        Authority(CertifiedIssuer::self_signed(params, Key::generate().unwrap()).unwrap())
    }

    /// An authority below this one.
    pub(crate) fn subordinate(&self, name: &str, faults: Faults) -> Authority {
        let (params, key) = (authority_params(name, faults), Key::generate().unwrap());
        Authority(CertifiedIssuer::signed_by(params, key, &self.0).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        self.0.der()
    }

    pub(crate) fn issue(&self, wish: &Wish) -> Identity {
        let (params, key) = (wish.params(), Key::generate().unwrap());
        Identity::new(&params.signed_by(&key, &self.0).unwrap(), &key, params)
    }

    pub(crate) fn self_signed(wish: &Wish) -> Identity {
        let (params, key) = (wish.params(), Key::generate().unwrap());
        Identity::new(&params.self_signed(&key).unwrap(), &key, params)
    }

    /// A list of revoked certificates.
    pub(crate) fn revoke(&self, serials: &[u64], valid: Valid) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: valid.0.into(),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: valid.0.into(),
            next_update: valid.1.into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

//! The versions and cipher suites, by Go's names.
//!
//! Source: etcd client/pkg/tlsutil/{cipher_suites,versions}.go @ v3.7.1; the names of Go's
//! `crypto/tls`.

use super::TlsError;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CipherSuite, SupportedProtocolVersion, version};
use std::sync::Arc;

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl Version {
    /// Reads `TLS1.2` or `TLS1.3`.
    ///
    /// # Errors
    /// etcd's message for any other text.
    pub fn parse(text: &str) -> Result<Version, TlsError> {
        match text {
            "TLS1.2" => Ok(Version::Tls12),
            "TLS1.3" => Ok(Version::Tls13),
            other => Err(TlsError::Settings(format!(
                "unexpected TLS version {other:?} (must be one of: TLS1.2, TLS1.3)"
            ))),
        }
    }

    fn protocol(self) -> &'static SupportedProtocolVersion {
        match self {
            Version::Tls12 => &version::TLS12,
            Version::Tls13 => &version::TLS13,
        }
    }
}

/// The versions and cipher suites that a connection may use.
#[derive(Clone, Debug)]
pub struct Crypto {
    min: Version,
    max: Version,
    /// Of TLS 1.2, by preference; all if it is empty.
    suites: Vec<CipherSuite>,
}

impl Default for Crypto {
    /// Both versions, and all suites.
    fn default() -> Crypto {
        Crypto { min: Version::Tls12, max: Version::Tls13, suites: Vec::new() }
    }
}

impl Crypto {
    /// The versions from `min` to `max`, and the named suites of TLS 1.2; without names all of
    /// them. As in Go, the suites of TLS 1.3 cannot be chosen.
    ///
    /// # Errors
    /// When a suite is unknown, or is too weak to be here, or when `min` is above `max`.
    pub fn new(min: Version, max: Version, names: &[String]) -> Result<Crypto, TlsError> {
        if min > max {
            return Err(TlsError::Settings("min version is greater than max version".to_owned()));
        }
        let suites = names.iter().map(|name| suite(name)).collect::<Result<_, _>>()?;
        Ok(Crypto { min, max, suites })
    }

    pub(super) fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let all = [Version::Tls13, Version::Tls12];
        let used = all.into_iter().filter(|version| (self.min..=self.max).contains(version));
        used.map(Version::protocol).collect()
    }

    pub(super) fn provider(&self) -> Arc<CryptoProvider> {
        let mut provider = aws_lc_rs::default_provider();
        if !self.suites.is_empty() {
            let all = std::mem::take(&mut provider.cipher_suites);
            let is_new = |version| version == &version::TLS13;
            let new = all.iter().filter(|suite| is_new(suite.version()));
            let named =
                self.suites.iter().filter_map(|name| all.iter().find(|it| it.suite() == *name));
            let named = named.filter(|suite| !is_new(suite.version()));
            provider.cipher_suites = new.chain(named).copied().collect();
        }
        Arc::new(provider)
    }
}

fn suite(name: &str) -> Result<CipherSuite, TlsError> {
    if let Some((_, suite)) = SUITES.iter().find(|(known, _)| *known == name) {
        return Ok(*suite);
    }
    Err(TlsError::Settings(if WEAK_SUITES.contains(&name) {
        format!(
            "TLS cipher suite {name:?} is not supported: suites with RC4, 3DES or CBC, and those \
             without forward secrecy, are too weak; use one with ECDHE and GCM or CHACHA20_POLY1305"
        )
    } else {
        format!("unexpected TLS cipher suite {name:?}")
    }))
}

const SUITES: &[(&str, CipherSuite)] = &[
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    // The older names of the two above.
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
];

/// Suites that Go has and this program has not.
const WEAK_SUITES: &[&str] = &[
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn refused(suites: &[&str]) -> String {
        let crypto = Crypto::new(Version::Tls12, Version::Tls13, &names(suites));
        crypto.unwrap_err().to_string()
    }

    #[test]
    fn ghsa_5x4g_q5rc_36jp_weak_and_unknown_suites_are_refused_with_a_sentence() {
        assert_eq!(refused(&["x"]), "unexpected TLS cipher suite \"x\"");
        for weak in WEAK_SUITES {
            assert!(refused(&[weak]).contains("is not supported: suites with RC4"), "{weak}");
        }
    }

    #[test]
    fn named_suites_are_the_only_ones_of_tls_1_2() {
        let name = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305";
        let crypto = Crypto::new(Version::Tls12, Version::Tls13, &names(&[name])).unwrap();
        let provider = crypto.provider();
        let old = |suite: &&rustls::SupportedCipherSuite| suite.version() == &version::TLS12;
        let old: Vec<_> = provider.cipher_suites.iter().filter(old).map(|it| it.suite()).collect();
        assert_eq!(old, [CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256]);
        assert_eq!(provider.cipher_suites.len(), 4, "with the three of TLS 1.3");
    }

    #[test]
    fn every_known_suite_is_spoken() {
        let provider = aws_lc_rs::default_provider();
        for (name, suite) in SUITES {
            assert!(provider.cipher_suites.iter().any(|it| it.suite() == *suite), "{name}");
        }
    }
}

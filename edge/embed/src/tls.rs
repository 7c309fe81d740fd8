//! The settings of TLS, towards clients and towards peers. What is made of them: `listening`.
//!
//! Source: etcd server/embed/config.go @ v3.7.1, client/pkg/transport/listener.go.

use crate::settings::Settings;
use net::tls::{Allowed, Crypto, Version};
use std::path::PathBuf;

/// The certificates of one side of the member: towards clients, or towards peers.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// The file of the server's certificate; empty for none.
    pub cert: String,
    /// The file of its key.
    pub key: String,
    /// The file of the certificate for connections that this member makes; empty for `cert`.
    pub client_cert: String,
    /// The file of its key.
    pub client_key: String,
    /// The file of the authorities of the other side.
    pub trusted_ca: Option<PathBuf>,
    /// Whether the other side must have a certificate.
    pub client_cert_auth: bool,
    /// The file of revoked certificates.
    pub crl: Option<PathBuf>,
    /// Which certificates are allowed.
    pub allowed: Allowed,
    /// Whether a certificate is made where none is given.
    pub auto: bool,
    /// Whether the other side's certificate need not fit its address.
    pub skips_source: bool,
    /// The name that other members' certificates must have, instead of their hosts.
    pub server_name: Option<String>,
}

impl Side {
    /// Whether there is no certificate.
    pub(crate) fn is_empty(&self) -> bool {
        self.cert.is_empty() && self.key.is_empty()
    }
}

/// The settings of TLS.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Towards clients.
    pub clients: Side,
    /// Towards peers.
    pub peers: Side,
    /// Versions and cipher suites.
    pub crypto: Crypto,
    /// The years that a made certificate is valid.
    pub self_signed_years: u64,
}

/// Reads the settings; [`check`] has accepted them.
pub(crate) fn from_settings(s: &Settings) -> Tls {
    let file =
        |name: &str| Some(PathBuf::from(s.text(name))).filter(|it| !it.as_os_str().is_empty());
    let side = |prefix: &str, crl: &str, allowed: Allowed| {
        let text = |name: &str| s.text(&format!("{prefix}{name}"));
        Side {
            cert: text("cert-file"),
            key: text("key-file"),
            client_cert: text("client-cert-file"),
            client_key: text("client-key-file"),
            trusted_ca: file(&format!("{prefix}trusted-ca-file")),
            client_cert_auth: s.bool(&format!("{prefix}client-cert-auth")),
            crl: file(crl),
            allowed,
            auto: s.bool(&format!("{prefix}auto-tls")),
            skips_source: s.bool("peer-skip-client-san-verification"),
            server_name: None,
        }
    };
    let clients =
        allowed(s, "client-cert-allowed-cn", "client-cert-allowed-hostname").unwrap_or_default();
    let peers =
        allowed(s, "peer-cert-allowed-cn", "peer-cert-allowed-hostname").unwrap_or_default();
    Tls {
        clients: Side { skips_source: true, ..side("", "client-crl-file", clients) },
        peers: side("peer-", "peer-crl-file", peers),
        crypto: crypto(s).unwrap_or_default(),
        self_signed_years: s.uint("self-signed-cert-validity"),
    }
}

/// The checks that need neither the URLs nor the files.
///
/// # Errors
/// etcd's message where etcd has one.
pub(crate) fn check(s: &Settings) -> Result<(), String> {
    crypto(s)?;
    allowed(s, "client-cert-allowed-cn", "client-cert-allowed-hostname")?;
    allowed(s, "peer-cert-allowed-cn", "peer-cert-allowed-hostname")?;
    // As in etcd, also if no URL needs the certificate.
    let makes = |prefix: &str| {
        let is_empty = |flag: &str| s.text(&format!("{prefix}{flag}")).is_empty();
        s.bool(&format!("{prefix}auto-tls")) && is_empty("cert-file") && is_empty("key-file")
    };
    if s.uint("self-signed-cert-validity") == 0 && (makes("") || makes("peer-")) {
        return Err(net::tls::NO_VALIDITY.to_owned());
    }
    Ok(())
}

fn crypto(s: &Settings) -> Result<Crypto, String> {
    let (min, max) = (s.text("tls-min-version"), s.text("tls-max-version"));
    let lowest = version(&min, Version::Tls12)?;
    let highest = version(&max, Version::Tls13)?;
    between((&min, lowest), (&max, highest), &s.words("cipher-suites"))
}

/// Reads a version; `unset` is meant by an empty text.
///
/// # Errors
/// etcd's message for any other text.
pub(crate) fn version(text: &str, unset: Version) -> Result<Version, String> {
    match text {
        "" => Ok(unset),
        text => Version::parse(text).map_err(|error| error.to_string()),
    }
}

/// The versions between two, which messages show as they were given, and cipher suites.
///
/// # Errors
/// When they do not fit together, or a suite cannot be used.
pub(crate) fn between(
    (min, lowest): (&str, Version),
    (max, highest): (&str, Version),
    suites: &[String],
) -> Result<Crypto, String> {
    if lowest > highest {
        return Err(format!("min version ({min}) is greater than max version ({max})"));
    }
    if lowest == Version::Tls13 && !suites.is_empty() {
        return Err("cipher suites cannot be configured when only TLS1.3 is enabled".to_owned());
    }
    Crypto::new(lowest, highest, suites).map_err(|error| error.to_string())
}

fn allowed(s: &Settings, common_names: &str, hostnames: &str) -> Result<Allowed, String> {
    match (s.words(common_names), s.words(hostnames)) {
        (names, hosts) if !names.is_empty() && !hosts.is_empty() => Err(format!(
            "AllowedCNs and AllowedHostnames are mutually exclusive (cns={names:?}, \
             hostnames={hosts:?})"
        )),
        (names, _) if !names.is_empty() => Ok(Allowed::CommonNames(names)),
        (_, hosts) if !hosts.is_empty() => Ok(Allowed::Hostnames(hosts)),
        _ => Ok(Allowed::All),
    }
}

//! Reads the files of the TLS settings: decides whether a listener expects TLS, and makes the
//! dialer for connections to other members.
//!
//! Source: etcd server/embed/{config,etcd}.go @ v3.7.1 (`ClientSelfCert`, `PeerSelfCert`,
//! `configureClientListeners`), client/pkg/transport/listener.go.

use crate::config::Config;
use crate::settings::Notice;
use crate::tls::Side;
use api::Traffic;
use net::Url;
use net::tls::{
    ClientOptions, ClientTls, KeyPair, Security, ServerOptions, ServerTls, TlsError, self_signed,
};
use peer::Dialer;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Whether the listeners of a kind expect TLS.
#[derive(Clone, Debug)]
pub(crate) struct Listening {
    /// `None` if no URL asks for TLS.
    tls: Option<Arc<ServerTls>>,
}

impl Listening {
    /// The TLS of the listeners, if there is any.
    pub(crate) fn tls(&self) -> Option<Arc<ServerTls>> {
        self.tls.clone()
    }

    /// What one listener expects: plain text, TLS or both. Its URLs have the same address.
    pub(crate) fn security(&self, urls: &[&Url]) -> Security {
        let has_plain = urls.iter().any(|url| !url.scheme().is_secure());
        match &self.tls {
            Some(tls) if has_plain && urls.len() > 1 => Security::Either(Arc::clone(tls)),
            Some(tls) if !has_plain => Security::Tls(Arc::clone(tls)),
            Some(_) | None => Security::Plain,
        }
    }
}

/// A kind of listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Clients,
    Peers,
    Metrics,
}

impl Port {
    /// The URLs to listen on.
    pub(crate) fn urls(self, config: &Config) -> Vec<&Url> {
        let urls = &config.urls;
        match self {
            Port::Clients => urls.listen_client.iter().chain(&urls.listen_client_http).collect(),
            Port::Peers => urls.listen_peer.iter().collect(),
            Port::Metrics => urls.listen_metrics.iter().collect(),
        }
    }

    /// Its name in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Port::Clients => "client",
            Port::Peers => "peer",
            Port::Metrics => "metrics",
        }
    }
}

/// Where a URL is listened on: whether it is a unix socket, and its address.
pub(crate) fn place(url: &Url) -> (bool, String) {
    (url.scheme().is_unix(), url.address())
}

/// What a URL for clients serves.
pub(crate) fn traffic(config: &Config, url: &Url) -> Traffic {
    match &config.urls.listen_client_http[..] {
        [] => Traffic::All,
        http if http.contains(url) => Traffic::Http,
        _ => Traffic::Grpc,
    }
}

/// Reads the files for the listeners of a kind. Makes the certificate for `--auto-tls`.
///
/// # Errors
/// When a URL needs a certificate and there is none, or the files are not valid.
pub(crate) fn listening(config: &Config, port: Port) -> Result<Listening, String> {
    let urls = port.urls(config);
    let mut side = match port {
        Port::Clients | Port::Metrics => config.urls.tls.clients.clone(),
        Port::Peers => config.urls.tls.peers.clone(),
    };
    let Some(secure) = urls.iter().find(|url| url.scheme().is_secure()) else {
        return Ok(Listening { tls: None });
    };
    let of = if port == Port::Peers { "peer" } else { "client" };
    make_certificate(config, of, &urls, &mut side).map_err(|error| error.to_string())?;
    if side.is_empty() {
        return Err(match port {
            Port::Clients => format!(
                "TLS key/cert (--cert-file, --key-file) must be provided for client url {secure} \
                 with HTTPS scheme"
            ),
            Port::Peers => format!(
                "cannot listen on TLS for {}: KeyFile and CertFile are not presented",
                secure.address()
            ),
            Port::Metrics => format!(
                "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure \
                 url {secure}"
            ),
        });
    }
    let pair = pair(&side.cert, &side.key)?;
    let protocols = if port == Port::Clients { vec!["h2", "http/1.1"] } else { Vec::new() };
    let options = ServerOptions {
        trusted_ca: side.trusted_ca,
        client_cert_auth: side.client_cert_auth,
        crl: side.crl,
        allowed: side.allowed,
        crypto: config.urls.tls.crypto.clone(),
        protocols,
        checks_source: !side.skips_source,
        ..ServerOptions::new(pair)
    };
    let tls = ServerTls::new(options).map_err(|error| error.to_string())?;
    tracing::info!(
        cert = side.cert,
        key = side.key,
        "client-cert-auth" = tls.options().needs_certificates(),
        "starting with {of} TLS"
    );
    Ok(Listening { tls: Some(Arc::new(tls)) })
}

/// Makes connections to other members: with the certificate for such connections, or else that of
/// the peers' port.
///
/// # Errors
/// When the files are not valid.
pub(crate) fn dialer(config: &Config) -> Result<Dialer, String> {
    let mut side = config.urls.tls.peers.clone();
    let is_made = side.auto && side.is_empty();
    make_certificate(config, "peer", &Port::Peers.urls(config), &mut side)
        .map_err(|error| error.to_string())?;
    if side.client_cert.is_empty() != side.client_key.is_empty() {
        let (key, cert) = (side.client_key, side.client_cert);
        return Err(format!(
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: {key}, cert: \
             {cert}]"
        ));
    }
    let is_set = !side.is_empty() || side.trusted_ca.is_some();
    let pair = match () {
        () if !side.client_cert.is_empty() => Some(pair(&side.client_cert, &side.client_key)?),
        () if !side.is_empty() => Some(pair(&side.cert, &side.key)?),
        () => None,
    };
    let options = ClientOptions {
        pair,
        trusted_ca: side.trusted_ca,
        server_name: side.server_name,
        // Each member has made its own certificate, which no authority has issued.
        skips_verification: is_made,
        allowed: side.allowed,
        crypto: config.urls.tls.crypto.clone(),
        ..ClientOptions::default()
    };
    let tls = match ClientTls::new(options) {
        Ok(tls) => Some(Arc::new(tls)),
        Err(error) if is_set => return Err(error.to_string()),
        // The operating system has no authorities; other members need them only at https URLs.
        Err(_) => None,
    };
    let dialer = Dialer::new(tls, Duration::from_secs(1) + config.member.election_timeout());
    let local = local_address(config);
    if config.gates.enabled("SetMemberLocalAddr") {
        log_local_address(config, local);
    }
    Ok(dialer.from_address(local))
}

/// With the gate `SetMemberLocalAddr`, the address that connections to other members come from: the
/// first one in the advertised peer URLs that is neither a loopback address nor unspecified.
///
/// Source: etcd server/embed/config.go `InferLocalAddr` @ v3.7.1.
pub(crate) fn local_address(config: &Config) -> Option<IpAddr> {
    if !config.gates.enabled("SetMemberLocalAddr") {
        return None;
    }
    let address = |url: &Url| {
        let host = url.host().trim_start_matches('[').trim_end_matches(']');
        host.parse::<IpAddr>().ok().filter(|it| !it.is_loopback() && !it.is_unspecified())
    };
    config.urls.advertise_peer.iter().find_map(address)
}

fn log_local_address(config: &Config, local: Option<IpAddr>) {
    let urls: Vec<String> = config.urls.advertise_peer.iter().map(Url::to_string).collect();
    tracing::info!(
        "advertise-peer-urls" = ?urls,
        "searching for a suitable member local address in AdvertisePeerURLs"
    );
    match local {
        Some(local) => {
            tracing::info!("LocalAddr" = local.to_string(), "setting member local address");
        }
        None => tracing::warn!(
            "advertise-peer-urls" = ?urls,
            "unable to set a member local address due to lack of suitable local addresses"
        ),
    }
}

/// The files of a certificate and its key.
///
/// # Errors
/// When one of them is missing.
pub(crate) fn pair(cert: &str, key: &str) -> Result<KeyPair, String> {
    if cert.is_empty() || key.is_empty() {
        return Err(format!("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]"));
    }
    Ok(KeyPair { cert: cert.into(), key: key.into() })
}

/// With `--auto-tls`, unless there is another certificate: the made certificate, for the hosts of the URLs.
fn make_certificate(
    config: &Config,
    of: &str,
    urls: &[&Url],
    side: &mut Side,
) -> Result<(), TlsError> {
    if !side.auto || !side.is_empty() {
        return Ok(());
    }
    let hosts = urls.iter().map(|url| url.host().to_owned()).filter(|host| !host.is_empty());
    let hosts: Vec<String> = hosts.collect();
    let directory = config.member.data_dir.join("fixtures").join(of);
    let made = self_signed(&directory, &hosts, config.urls.tls.self_signed_years)?;
    side.cert = made.cert.display().to_string();
    side.key = made.key.display().to_string();
    Ok(())
}

/// Warnings about settings that are ignored.
pub(crate) fn ignored(config: &Config) -> Vec<Notice> {
    let of = |port: Port, side: &Side, schemes: &str, flag: &str| {
        let mut notices = Vec::new();
        if side.auto && !side.is_empty() {
            let text = format!("ignoring {} auto TLS since certs given", port.name());
            notices.push(Notice::new("warn", &text, []));
        }
        let urls = port.urls(config);
        for url in urls.iter().filter(|url| !url.scheme().is_secure()) {
            let field = || [("url", url.to_string())];
            if !side.is_empty() {
                let text = format!(
                    "scheme is {schemes} while key and cert files are present; ignoring key and \
                     cert files"
                );
                notices.push(Notice::new("warn", &text, field()));
            }
            if side.client_cert_auth {
                let text = format!(
                    "scheme is {schemes} while --{flag} is enabled; ignoring client cert auth for \
                     this URL"
                );
                notices.push(Notice::new("warn", &text, field()));
            }
        }
        notices
    };
    let tls = &config.urls.tls;
    let mut notices = of(Port::Clients, &tls.clients, "http or unix", "client-cert-auth");
    notices.extend(of(Port::Peers, &tls.peers, "HTTP", "peer-client-cert-auth"));
    notices
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::{flags, validate};

    fn local(gates: &str, urls: &str) -> Option<String> {
        let mut settings = Settings::default();
        for (name, value) in [("feature-gates", gates), ("initial-advertise-peer-urls", urls)] {
            let flag = flags::find(name).unwrap();
            settings.set(flag, flag.kind.parse(value).unwrap());
        }
        let config = validate::check(&settings).0.unwrap();
        local_address(&config).map(|address| address.to_string())
    }

    #[test]
    fn the_local_address_is_the_first_advertised_one_that_others_can_reach() {
        let on = "SetMemberLocalAddr=true";
        let many = "http://localhost:1,http://127.0.0.1:2,http://10.1.2.3:4,http://10.1.2.4:4";
        assert_eq!(local(on, many).as_deref(), Some("10.1.2.3"));
        assert_eq!(local(on, "http://[fd00::7]:1").as_deref(), Some("fd00::7"));
        assert_eq!(local(on, "http://[::1]:1,http://a:2"), None);
        assert_eq!(local("", many), None);
    }
}

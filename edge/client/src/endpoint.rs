//! The address of a server as users write it.
//!
//! Source: etcd v3.7.1 client/v3/internal/endpoint/endpoint.go.

use net::tls::ClientTls;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// `host:port`.
    Tcp(String),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// A parsed endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// Where to connect.
    pub(crate) address: Address,
    /// The `:authority` of requests.
    pub(crate) authority: String,
    /// TLS, if the connection has it.
    pub(crate) tls: Option<Arc<ClientTls>>,
}

/// Whether an endpoint must not be connected without TLS.
pub(crate) fn needs_tls(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("unixs:")
}

impl Endpoint {
    /// Parses `host:port`, `unix:path`, and both with a scheme. `tls` is the client's TLS
    /// configuration.
    pub(crate) fn parse(text: &str, tls: Option<&Arc<ClientTls>>) -> Endpoint {
        let is_plain = text.starts_with("http://") || text.starts_with("unix:");
        let tls = tls.filter(|_| !is_plain).cloned();
        if let Some(path) = text.strip_prefix("unix:").or_else(|| text.strip_prefix("unixs:")) {
            let path = path.strip_prefix("//").unwrap_or(path);
            let address = Address::Unix(PathBuf::from(path));
            return Endpoint { address, authority: "localhost".to_string(), tls };
        }
        let host = text.split_once("://").map_or(text, |(_, behind)| behind);
        let host = host.split('/').next().unwrap_or(host).to_string();
        Endpoint { address: Address::Tcp(host.clone()), authority: host, tls }
    }

    /// The host without its port and brackets.
    pub(crate) fn host(&self) -> &str {
        let host = match self.authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => &self.authority,
        };
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }
}

/// An endpoint without its scheme, as Go's client names its target.
pub(crate) fn authority(text: &str) -> &str {
    match text.split_once("://") {
        Some((_, behind)) => behind,
        None => text.strip_prefix("unix:").unwrap_or(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_may_have_a_scheme() {
        for text in ["a:1", "http://a:1", "http://a:1/", "https://a:1"] {
            let endpoint = Endpoint::parse(text, None);
            assert_eq!(endpoint.address, Address::Tcp("a:1".to_string()), "{text}");
            assert_eq!((endpoint.host(), &*endpoint.authority), ("a", "a:1"));
        }
        for text in ["unix:///tmp/x", "unix:/tmp/x", "unixs:///tmp/x"] {
            let endpoint = Endpoint::parse(text, None);
            assert_eq!(endpoint.address, Address::Unix(PathBuf::from("/tmp/x")));
        }
        assert_eq!(Endpoint::parse("[::1]:2379", None).host(), "::1");
        assert_eq!(authority("http://a:1"), "a:1");
    }

    #[test]
    fn the_scheme_decides_about_tls_and_without_one_the_client() {
        let skips_verification = true;
        let options = net::tls::ClientOptions { skips_verification, ..Default::default() };
        let tls = Arc::new(ClientTls::new(options).unwrap());
        for (text, is_secure) in [
            ("http://a:1", false),
            ("unix:///x", false),
            ("unix:/x", false),
            ("https://a:1", true),
            ("unixs:///x", true),
            ("a:1", true),
        ] {
            assert_eq!(Endpoint::parse(text, Some(&tls)).tls.is_some(), is_secure, "{text}");
        }
        assert!(needs_tls("https://a:1") && needs_tls("unixs:/x") && !needs_tls("a:1"));
    }
}

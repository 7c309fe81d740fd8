//! The address of a server as users write it.
//!
//! Source: etcd v3.7.1 client/v3/internal/endpoint/endpoint.go.

use crate::Error;
use std::path::PathBuf;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// `host:port`.
    Tcp(String),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// A parsed endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Where to connect.
    pub(crate) address: Address,
    /// The `:authority` of requests.
    pub(crate) authority: String,
}

impl Endpoint {
    /// Reads `host:port`, `http://host:port`, `unix://path` and `unix:path`.
    ///
    /// # Errors
    /// When it needs TLS, which is not built yet.
    pub(crate) fn parse(text: &str) -> Result<Endpoint, Error> {
        if text.starts_with("https://") || text.starts_with("unixs:") {
            return Err(Error::Config(format!(
                "endpoint {text} needs TLS, which is not built yet: use http:// or unix://"
            )));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let address = Address::Unix(PathBuf::from(path));
            return Ok(Endpoint { address, authority: "localhost".to_string() });
        }
        let host = text.split_once("://").map_or(text, |(_, behind)| behind);
        let host = host.split('/').next().unwrap_or(host).to_string();
        Ok(Endpoint { address: Address::Tcp(host.clone()), authority: host })
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
        for text in ["a:1", "http://a:1", "http://a:1/"] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint.address, Address::Tcp("a:1".to_string()), "{text}");
            assert_eq!(endpoint.authority, "a:1");
        }
        for text in ["unix:///tmp/x", "unix:/tmp/x"] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint.address, Address::Unix(PathBuf::from("/tmp/x")));
        }
        assert!(Endpoint::parse("https://a:1").is_err());
        assert_eq!(authority("http://a:1"), "a:1");
    }
}

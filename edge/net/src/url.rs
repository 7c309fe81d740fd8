//! The URLs of flags: a scheme, a host and a port.
//!
//! Source: etcd client/pkg/types/urls.go @ v3.7.1 and what Go's `net/url` refuses.

use std::fmt;

/// The scheme of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// `http`: plain TCP.
    Http,
    /// `https`: TLS over TCP.
    Https,
    /// `unix`: a socket in the file system.
    Unix,
    /// `unixs`: TLS over a socket in the file system.
    Unixs,
}

impl Scheme {
    /// The scheme's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Unix => "unix",
            Self::Unixs => "unixs",
        }
    }

    /// Whether the scheme asks for TLS.
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Https | Self::Unixs)
    }

    /// Whether the scheme names a file.
    pub fn is_unix(self) -> bool {
        matches!(self, Self::Unix | Self::Unixs)
    }
}

/// A valid URL. Its text is that of the user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    text: String,
    scheme: Scheme,
}

/// Why a URL is invalid, with the messages of etcd and Go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlError(String);

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UrlError {}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Url {
    /// Parses one URL; surrounding spaces are ignored.
    ///
    /// # Errors
    /// [`UrlError`] when the scheme is unknown, the port is missing, or there is a path.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let error = |why: String| Err(UrlError(why));
        let go = |why: &str| Err(UrlError(format!("parse {text:?}: {why}")));
        if text.chars().any(|c| c.is_ascii_control()) {
            return go("net/url: invalid control character in URL");
        }
        let (scheme, rest) = match split_scheme(text) {
            Ok(parts) => parts,
            Err(why) => return go(why),
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return error(format!("URL scheme must be http, https, unix, or unixs: {text}")),
        };
        let url = Self { text: text.to_owned(), scheme };
        if scheme.is_unix() {
            return Ok(url);
        }
        let authority = rest.strip_prefix("//").unwrap_or("");
        let (host, path) = match authority.find(['/', '?', '#']) {
            Some(at) => authority.split_at(at),
            None => (authority, ""),
        };
        if let Some(bad) = host.chars().find(|c| " <>\"{}|\\^`".contains(*c)) {
            return go(&format!("invalid character {:?} in host name", bad.to_string()));
        }
        let Some((name, port)) = split_host_port(host) else {
            return error(format!("URL address does not have the form \"host:port\": {text}"));
        };
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return go(&format!("invalid port \":{port}\" after host"));
        }
        if name.contains('@') || !path.is_empty() {
            return error(format!("URL must not contain a path: {text}"));
        }
        Ok(url)
    }

    /// Parses a list separated by commas; the result is sorted and has no duplicates.
    ///
    /// # Errors
    /// The first [`UrlError`].
    pub fn parse_list(text: &str) -> Result<Vec<Self>, UrlError> {
        let mut urls = text.split(',').map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        urls.sort_by(|a, b| a.text.cmp(&b.text));
        urls.dedup();
        Ok(urls)
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The URL as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What follows the scheme: `host:port`, or for unix sockets the path.
    pub fn address(&self) -> &str {
        self.text.split_once("://").map_or("", |(_, rest)| rest)
    }

    /// The host, without the brackets of an IPv6 address; empty for unix sockets.
    pub fn host(&self) -> &str {
        if self.scheme.is_unix() {
            return "";
        }
        let host = split_host_port(self.address()).map_or("", |(host, _)| host);
        host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
    }

    /// The port as it was written; empty for unix sockets.
    pub fn port(&self) -> &str {
        if self.scheme.is_unix() {
            return "";
        }
        split_host_port(self.address()).map_or("", |(_, port)| port)
    }

    /// The same URL with another host.
    ///
    /// # Errors
    /// [`UrlError`] if the host does not make a URL.
    pub fn with_host(&self, host: &str) -> Result<Self, UrlError> {
        Self::parse(&format!("{}://{host}:{}", self.scheme.name(), self.port()))
    }
}

/// Splits `scheme:rest`; the errors are Go's.
fn split_scheme(text: &str) -> Result<(&str, &str), &'static str> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme"),
            ':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    let first = text.split('/').next().unwrap_or("");
    if first.contains(':') {
        return Err("first path segment in URL cannot contain colon");
    }
    Ok(("", text))
}

fn split_host_port(host: &str) -> Option<(&str, &str)> {
    let (name, port) = host.rsplit_once(':')?;
    // `[::1]` has colons and no port; a bare `::1` is ambiguous.
    if port.contains(']') || (name.contains(':') && !(name.starts_with('[') && name.ends_with(']')))
    {
        return None;
    }
    Some((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_prints_as_it_was_written() {
        for text in ["http://127.0.0.1:2379", "https://[::1]:2379", "unix://localhost:23790"] {
            assert_eq!(Url::parse(text).unwrap().to_string(), text);
        }
        let url = Url::parse(" http://[::1]:2379 ").unwrap();
        assert_eq!((url.host(), url.port()), ("::1", "2379"));
        assert_eq!(url.address(), "[::1]:2379");
    }

    #[test]
    fn refusals_have_etcds_words() {
        for (text, error) in [
            ("foo", "URL scheme must be http, https, unix, or unixs: foo"),
            ("localhost:2379", "URL scheme must be http, https, unix, or unixs: localhost:2379"),
            (
                "127.0.0.1:2379",
                "parse \"127.0.0.1:2379\": first path segment in URL cannot contain colon",
            ),
            (":2379", "parse \":2379\": missing protocol scheme"),
            (
                "http://127.0.0.1",
                "URL address does not have the form \"host:port\": http://127.0.0.1",
            ),
            ("http://x:1/a", "URL must not contain a path: http://x:1/a"),
            ("http://x:1/", "URL must not contain a path: http://x:1/"),
            ("http://x:y", "parse \"http://x:y\": invalid port \":y\" after host"),
            ("http://a b:1", "parse \"http://a b:1\": invalid character \" \" in host name"),
            ("", "URL scheme must be http, https, unix, or unixs: "),
        ] {
            assert_eq!(Url::parse(text).unwrap_err().to_string(), error, "{text}");
        }
    }

    #[test]
    fn lists_are_sorted_and_without_doubles() {
        let urls = Url::parse_list("http://b:2,http://a:1,http://b:2").unwrap();
        let text: Vec<_> = urls.iter().map(Url::as_str).collect();
        assert_eq!(text, ["http://a:1", "http://b:2"]);
    }
}

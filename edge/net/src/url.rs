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
    /// `host:port`.
    authority: String,
    /// The path of a unix socket after the authority, without escapes; otherwise empty.
    path: String,
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
        let authority = rest.strip_prefix("//").unwrap_or("");
        let (host, path) = match authority.find(['/', '?', '#']) {
            Some(at) => authority.split_at(at),
            None => (authority, ""),
        };
        if let Some(bad) = host.chars().find(|c| " <>\"{}|\\^`".contains(*c)) {
            return go(&format!("invalid character {:?} in host name", bad.to_string()));
        }
        if scheme.is_unix() {
            let path = if rest.starts_with("//") { path } else { rest };
            return Self::unix(text, scheme, host, path);
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
        let (authority, path) = (host.to_owned(), String::new());
        let url = Self { text: text.to_owned(), scheme, authority, path };
        Ok(url)
    }

    /// The URL of a socket in the file system: `host` and `path` are its parts. As in Go, the name of
    /// the file is `host:port` and the path, and a port has digits only.
    fn unix(text: &str, scheme: Scheme, host: &str, path: &str) -> Result<Self, UrlError> {
        let go = |why: &str| UrlError(format!("parse {text:?}: {why}"));
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        if let Some(at) = host.find('%') {
            let escape: String = host[at..].chars().take(3).collect();
            return Err(go(&format!("invalid URL escape {escape:?}")));
        }
        let port = host.rsplit_once(':').map_or("", |(_, port)| port);
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(go(&format!("invalid port \":{port}\" after host")));
        }
        let path = path.split(['?', '#']).next().unwrap_or("");
        let path =
            unescaped(path).map_err(|escape| go(&format!("invalid URL escape {escape:?}")))?;
        Ok(Self { text: text.to_owned(), scheme, authority: host.to_owned(), path })
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

    /// `host:port`, or the name of a unix socket's file: `host:port` and the path.
    pub fn address(&self) -> String {
        format!("{}{}", self.authority, self.path)
    }

    /// The host, without the brackets of an IPv6 address. That of a unix socket is the beginning of
    /// its file's name, and may be empty.
    pub fn host(&self) -> &str {
        let host = split_host_port(&self.authority).map_or("", |(host, _)| host);
        host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
    }

    /// The port as it was written. It belongs to the name of a unix socket's file, and may be empty.
    pub fn port(&self) -> &str {
        split_host_port(&self.authority).map_or("", |(_, port)| port)
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

/// A path without escapes; the error is the first wrong escape.
fn unescaped(path: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let byte = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let byte = byte.ok_or_else(|| format!("%{}", after.chars().take(2).collect::<String>()))?;
        bytes.push(byte);
        rest = &after[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(String::from_utf8_lossy(&bytes).into_owned())
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
    fn the_file_of_a_unix_socket_has_the_name_that_go_gives_it() {
        for (text, file) in [
            ("unix://localhost:31501", "localhost:31501"),
            ("unixs://localhost:31501", "localhost:31501"),
            ("unix:///tmp/a%20b", "/tmp/a b"),
            ("unix:/tmp/s", "/tmp/s"),
            ("unix://relative/s?query#fragment", "relative/s"),
            ("unix://user@h:1/x", "h:1/x"),
        ] {
            assert_eq!(Url::parse(text).unwrap().address(), file, "{text}");
        }
        assert_eq!(Url::parse("unix://localhost:1").unwrap().host(), "localhost");
        assert_eq!(Url::parse("unix:///tmp/s:1").unwrap().host(), "");
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
            (
                "unix://localhost:m0",
                "parse \"unix://localhost:m0\": invalid port \":m0\" after host",
            ),
            ("unix://%41:1", "parse \"unix://%41:1\": invalid URL escape \"%41\""),
            ("unix:///a%z", "parse \"unix:///a%z\": invalid URL escape \"%z\""),
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

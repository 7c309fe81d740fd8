//! `/etc/resolv.conf`: the name servers of the machine and how they are asked.
//!
//! Source: resolv.conf(5) of glibc; Go's net package (`dnsconfig_unix.go`). A name server may have a
//! port, as in OpenBSD: `[127.0.0.1]:5353`.

use crate::resolver::Resolver;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const FILE: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// As in glibc, further servers are ignored.
const SERVERS_MAX: usize = 3;
const TIMEOUT_S_MAX: u64 = 30;
const ATTEMPTS_MAX: u32 = 5;
const DOTS_MAX: usize = 15;

impl Resolver {
    /// The resolver of `/etc/resolv.conf`. Without that file, a name server on this machine is asked.
    #[must_use]
    pub fn system() -> Resolver {
        Resolver::parse(&std::fs::read_to_string(FILE).unwrap_or_default())
    }

    /// The resolver of this text in the format of `/etc/resolv.conf`. Lines that cannot be read are
    /// ignored.
    #[must_use]
    pub fn parse(text: &str) -> Resolver {
        let mut resolver = Resolver::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(server);
                    let room = SERVERS_MAX.saturating_sub(resolver.servers.len());
                    resolver.servers.extend(server.into_iter().take(room));
                }
                Some("domain") => {
                    resolver.search = words.next().map(absolute).into_iter().collect();
                }
                Some("search") => resolver.search = words.map(absolute).collect(),
                Some("options") => words.for_each(|option| resolver.set(option)),
                _ => {}
            }
        }
        if resolver.servers.is_empty() {
            resolver.servers.push(SocketAddr::from(([127, 0, 0, 1], PORT)));
        }
        resolver
    }

    fn set(&mut self, option: &str) {
        let Some((name, value)) = option.split_once(':') else { return };
        let Ok(value) = value.parse::<u32>() else { return };
        match name {
            "ndots" => self.dots_min = usize::try_from(value).unwrap_or(DOTS_MAX).min(DOTS_MAX),
            "timeout" => {
                self.timeout = Duration::from_secs(u64::from(value).clamp(1, TIMEOUT_S_MAX));
            }
            "attempts" => self.attempts = value.clamp(1, ATTEMPTS_MAX),
            _ => {}
        }
    }
}

fn server(word: &str) -> Option<SocketAddr> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, PORT));
    }
    let (host, port) = word.strip_prefix('[')?.split_once("]:")?;
    Some(SocketAddr::new(host.parse().ok()?, port.parse().ok()?))
}

fn absolute(domain: &str) -> String {
    format!("{}.", domain.trim_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_file_are_read() {
        let resolver = Resolver::parse(
            "# comment\nnameserver 10.0.0.1\nnameserver x\nnameserver [127.0.0.1]:5353\n\
             domain a\nsearch b.c d.\nnameserver ::1\nnameserver 10.0.0.2\n\
             options ndots:5 timeout:1 attempts:9 rotate\n",
        );
        let servers: Vec<String> = resolver.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "127.0.0.1:5353", "[::1]:53"]);
        assert_eq!(resolver.search, ["b.c.", "d."]);
        assert_eq!((resolver.dots_min, resolver.attempts), (5, ATTEMPTS_MAX));
        assert_eq!(resolver.timeout, Duration::from_secs(1));
    }

    #[test]
    fn without_a_name_server_that_of_this_machine_is_asked() {
        let resolver = Resolver::parse("options timeout:0");
        assert_eq!(resolver.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(resolver.timeout, Duration::from_secs(1), "no timeout is zero");
    }
}

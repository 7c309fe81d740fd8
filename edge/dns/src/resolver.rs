//! Asks name servers: by UDP, and by TCP if the answer is too long for a datagram.
//!
//! Source: Go's net package (`dnsclient_unix.go`, `dnsclient.go`).

use crate::message::{self, Answer, SrvRecord};
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// The longest answer in a datagram that is read; more is asked for by TCP.
const DATAGRAM_BYTES_MAX: usize = 4096;
const CODE_NO_SUCH_NAME: u16 = 3;

/// The name servers, and how they are asked.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// Asked in this order.
    pub(crate) servers: Vec<SocketAddr>,
    /// Domains that a name may be in, each with a dot at its end.
    pub(crate) search: Vec<String>,
    /// A name with this many dots is asked for as it is before it is searched for in domains.
    pub(crate) dots_min: usize,
    /// The time for one answer of one server.
    pub(crate) timeout: Duration,
    /// How many times each server is asked.
    pub(crate) attempts: u32,
}

impl Default for Resolver {
    fn default() -> Resolver {
        Resolver {
            servers: Vec::new(),
            search: Vec::new(),
            dots_min: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        }
    }
}

/// Why a name has no records.
#[derive(Debug)]
pub struct LookupError {
    name: String,
    server: Option<SocketAddr>,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    /// The name does not exist, or has no SRV records.
    NoSuchHost,
    /// The server cannot answer.
    Misbehaving,
    /// There was no answer.
    Io(io::Error),
}

impl fmt::Display for LookupError {
    /// Go's text of a `DNSError`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lookup {}", self.name)?;
        if let Some(server) = self.server {
            write!(f, " on {server}")?;
        }
        match &self.cause {
            Cause::NoSuchHost => f.write_str(": no such host"),
            Cause::Misbehaving => f.write_str(": server misbehaving"),
            Cause::Io(error) if is_timeout(error) => f.write_str(": i/o timeout"),
            Cause::Io(error) => {
                let text = error.to_string().to_lowercase();
                write!(f, ": {}", text.split(" (os error").next().unwrap_or_default())
            }
        }
    }
}

impl std::error::Error for LookupError {}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl Resolver {
    /// The SRV records of a name, in the order in which clients try them: by priority, and by chance
    /// after their weights. Blocks until there is an answer.
    ///
    /// # Errors
    /// [`LookupError`], also if the name has no record.
    pub fn srv(&self, name: &str) -> Result<Vec<SrvRecord>, LookupError> {
        let failed = |server, cause| LookupError { name: name.to_owned(), server, cause };
        let mut last = failed(None, Cause::NoSuchHost);
        for candidate in self.candidates(name) {
            match self.ask_all(&candidate) {
                Ok(records) => return Ok(in_order(records)),
                Err((server, cause)) => last = failed(server, cause),
            }
        }
        Err(last)
    }

    /// The absolute names that a name may mean, in the order in which they are asked for.
    fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let mut names: Vec<String> =
            self.search.iter().map(|domain| format!("{name}.{domain}")).collect();
        let has_dots = name.matches('.').count() >= self.dots_min;
        names.insert(if has_dots { 0 } else { names.len() }, format!("{name}."));
        names
    }

    fn ask_all(&self, name: &str) -> Result<Vec<SrvRecord>, (Option<SocketAddr>, Cause)> {
        let Some(question) = message::question(rand::random(), name) else {
            return Err((None, Cause::NoSuchHost));
        };
        let mut last = (None, Cause::Misbehaving);
        for _ in 0..self.attempts {
            for server in &self.servers {
                let cause = match self.ask(*server, &question) {
                    Ok(answer) if answer.code == 0 && !answer.records.is_empty() => {
                        return Ok(answer.records);
                    }
                    Ok(Answer { code: 0 | CODE_NO_SUCH_NAME, .. }) => {
                        return Err((Some(*server), Cause::NoSuchHost));
                    }
                    Ok(_) => Cause::Misbehaving,
                    Err(error) => Cause::Io(error),
                };
                last = (Some(*server), cause);
            }
        }
        Err(last)
    }

    fn ask(&self, server: SocketAddr, question: &[u8]) -> io::Result<Answer> {
        let answer = self.ask_by_datagram(server, question)?;
        if !answer.is_truncated {
            return Ok(answer);
        }
        self.ask_by_stream(server, question)
    }

    /// Messages that do not answer the question are ignored: anyone can send a datagram.
    fn ask_by_datagram(&self, server: SocketAddr, question: &[u8]) -> io::Result<Answer> {
        let any = if server.is_ipv4() {
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
        } else {
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(server)?;
        socket.send(question)?;
        let end = Instant::now() + self.timeout;
        let mut bytes = [0; DATAGRAM_BYTES_MAX];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            socket.set_read_timeout(Some(left))?;
            let length = socket.recv(&mut bytes)?;
            if let Some(answer) = message::answer(question, &bytes[..length]) {
                return Ok(answer);
            }
        }
    }

    fn ask_by_stream(&self, server: SocketAddr, question: &[u8]) -> io::Result<Answer> {
        let mut stream = TcpStream::connect_timeout(&server, self.timeout)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        let length = u16::try_from(question.len()).unwrap_or(u16::MAX);
        stream.write_all(&[&length.to_be_bytes()[..], question].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut bytes)?;
        message::answer(question, &bytes)
            .ok_or_else(|| io::Error::other("the server's message is not an answer"))
    }
}

/// Sorts records by priority. Among those of one priority, each next one is drawn by chance, after the
/// weights.
fn in_order(mut records: Vec<SrvRecord>) -> Vec<SrvRecord> {
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|record| record.priority) {
        let rivals = records.iter().take_while(|record| record.priority == priority);
        let weights: Vec<u32> = rivals.map(|record| u32::from(record.weight)).collect();
        let drawn = drawn(&weights, rand::random_range(0..=weights.iter().sum()));
        ordered.push(records.remove(drawn));
    }
    ordered
}

/// The first weight whose running sum reaches a number.
fn drawn(weights: &[u32], number: u32) -> usize {
    let mut sum = 0;
    let reaches = |weight: &u32| {
        sum += weight;
        sum >= number
    };
    weights.iter().position(reaches).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_searched_for_after_their_dots() {
        let resolver =
            Resolver { search: vec!["x.".to_owned()], dots_min: 2, ..Resolver::default() };
        assert_eq!(resolver.candidates("a.b"), ["a.b.x.", "a.b."]);
        assert_eq!(resolver.candidates("a.b.c"), ["a.b.c.", "a.b.c.x."]);
        assert_eq!(resolver.candidates("a."), ["a."]);
    }

    #[test]
    fn a_weight_is_drawn_by_its_share() {
        let at = [0, 1, 2, 3, 4].map(|number| drawn(&[0, 1, 3], number));
        assert_eq!(at, [0, 1, 2, 2, 2]);
    }

    #[test]
    fn records_are_sorted_by_priority_and_all_are_kept() {
        let record = |priority, weight| SrvRecord {
            priority,
            weight,
            port: 1,
            target: format!("{priority}-{weight}"),
        };
        let records = vec![record(2, 0), record(1, 5), record(1, 0), record(0, 9)];
        let ordered = in_order(records.clone());
        let priorities: Vec<u16> = ordered.iter().map(|record| record.priority).collect();
        assert_eq!(priorities, [0, 1, 1, 2]);
        assert!(records.iter().all(|record| ordered.contains(record)));
    }
}

//! A name server on loopback with SRV records, for tests of discovery.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

/// An SRV record.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its owner, such as `_etcd-client._tcp.example`.
    pub owner: &'static str,
    /// The port.
    pub port: u16,
    /// The host.
    pub target: &'static str,
}

/// How the name server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// By UDP.
    Datagram,
    /// Truncated by UDP, and whole by TCP.
    Stream,
    /// With an answer to another question before the real one.
    Forged,
    /// With the code of a failed server.
    Failed,
}

/// Starts a name server, which serves until the process ends.
///
/// # Errors
/// When the operating system has no port for it.
pub fn start(records: Vec<Record>, manner: Manner) -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    if manner == Manner::Stream {
        let (listener, records) = (TcpListener::bind(address)?, records.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                stream.and_then(|stream| serve(stream, &records)).ok();
            }
        });
    }
    thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            for answer in answers(&bytes[..length], &records, manner) {
                socket.send_to(&answer, from).ok();
            }
        }
    });
    Ok(address)
}

/// A file like `/etc/resolv.conf` for our own resolver, with these name servers. The system's resolver
/// does not know their ports.
#[must_use]
pub fn resolv_conf(servers: &[SocketAddr]) -> String {
    let line = |at: &SocketAddr| format!("nameserver [{}]:{}\n", at.ip(), at.port());
    servers.iter().map(line).collect()
}

/// A command that sees this file as `/etc/resolv.conf`; `None` if the machine does not let this user
/// make a mount namespace.
#[must_use]
pub fn command_with(resolv_conf: &Path, program: &str) -> Option<Command> {
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script]).arg(resolv_conf);
    let mut probe = Command::new("unshare");
    probe.args(["--mount", "sh", "-c", script]).arg(resolv_conf).arg("true");
    let may = probe.stdout(Stdio::null()).stderr(Stdio::null()).status();
    may.is_ok_and(|status| status.success()).then(|| {
        command.arg(program);
        command
    })
}

fn serve(mut stream: std::net::TcpStream, records: &[Record]) -> io::Result<()> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut question)?;
    let answer = answer(&question, records, 0);
    stream.write_all(&length_of(&answer))?;
    stream.write_all(&answer)
}

fn answers(question: &[u8], records: &[Record], manner: Manner) -> Vec<Vec<u8>> {
    let whole = answer(question, records, 0);
    let mut other = answer(question, &[], 0);
    match manner {
        Manner::Datagram => vec![whole],
        Manner::Stream => vec![answer(question, &[], 0x0200)],
        Manner::Forged => {
            other[0] ^= 1;
            vec![other, whole]
        }
        Manner::Failed => {
            other[3] = other[3] & 0xf0 | 2;
            vec![other]
        }
    }
}

fn length_of(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes()
}

fn name(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in text.split('.') {
        bytes.push(length_of(label.as_bytes())[1]);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// Source: RFC 1035 §4, RFC 2782.
fn answer(question: &[u8], records: &[Record], flags: u16) -> Vec<u8> {
    let asked = question.get(12..question.len() - 4).unwrap_or_default();
    let found: Vec<&Record> = records.iter().filter(|row| name(row.owner) == asked).collect();
    let code = if found.is_empty() { 3 } else { 0 };
    let mut bytes = question.get(..2).unwrap_or_default().to_vec();
    let count = u16::try_from(found.len()).unwrap_or(0);
    for word in [0x8180 | flags | code, 1, count, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(question.get(12..).unwrap_or_default());
    for record in found {
        let target = name(record.target);
        bytes.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 9]);
        // Priority and weight are 0.
        let mut data = vec![0; 4];
        data.extend(record.port.to_be_bytes());
        data.extend(target);
        bytes.extend(length_of(&data));
        bytes.extend(data);
    }
    bytes
}

//! The client's side of a connection, by rustls or byte by byte, and how the server ends it.
//!
//! Source: RFC 8446 (records, hellos), RFC 5246 (records of TLS 1.2), RFC 7905 (ChaCha20).

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::{AlertDescription, ClientConnection, ConnectionTrafficSecrets};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Longer than any server under test needs to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The types of records.
pub(crate) const CHANGE_CIPHER: u8 = 20;
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;

/// Where a listener is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Tcp(String),
    Unix(PathBuf),
}

/// A connection to a listener.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Place {
    pub(crate) fn connect(&self) -> Socket {
        match self {
            Place::Tcp(address) => {
                let socket = TcpStream::connect(address).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                socket.set_nodelay(true).unwrap();
                Socket::Tcp(socket)
            }
            Place::Unix(path) => {
                let socket = UnixStream::connect(path).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                Socket::Unix(socket)
            }
        }
    }
}

impl Socket {
    /// Says that nothing more is sent.
    pub(crate) fn end(&self) {
        // The server may have closed the connection already.
        drop(match self {
            Socket::Tcp(socket) => socket.shutdown(std::net::Shutdown::Write),
            Socket::Unix(socket) => socket.shutdown(std::net::Shutdown::Write),
        });
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.read(buf),
            Socket::Unix(socket) => socket.read(buf),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.write(buf),
            Socket::Unix(socket) => socket.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_closed(error: &io::Error) -> bool {
    let kinds = [
        ErrorKind::ConnectionReset,
        ErrorKind::ConnectionAborted,
        ErrorKind::BrokenPipe,
        ErrorKind::UnexpectedEof,
        ErrorKind::NotConnected,
    ];
    kinds.contains(&error.kind())
}

/// What an error of a connection by rustls says about the server.
fn outcome(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::AlertReceived(alert)) => format!("{alert:?}"),
        Some(other) => format!("the client refuses: {other}"),
        None if is_closed(error) => "closed".to_owned(),
        None => format!("no answer: {error}"),
    }
}

const REQUEST: &[u8] = b"GET /version HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";

/// Makes a request. Returns `served`, the name of the server's alert, or `closed`.
pub(crate) fn ask(conn: &mut ClientConnection, socket: &mut Socket) -> String {
    let mut tls = rustls::Stream::new(conn, socket);
    let mut head = [0; 9];
    let asked = tls.write_all(REQUEST).and_then(|()| tls.read_exact(&mut head));
    let error = match asked {
        Ok(()) if head == *b"HTTP/1.1 " => return "served".to_owned(),
        Ok(()) => return format!("no HTTP: {head:?}"),
        Err(error) => error,
    };
    if !is_closed(&error) {
        return outcome(&error);
    }
    // An alert may have arrived before the end.
    while let Ok(1..) = conn.read_tls(socket) {
        if let Err(error) = conn.process_new_packets() {
            return outcome(&io::Error::other(error));
        }
    }
    "closed".to_owned()
}

/// The type of a record, its head, and what is behind that.
type TypeHeadAndPayload = (u8, [u8; 5], Vec<u8>);

/// The next record; `None` at the end.
fn record(socket: &mut Socket) -> io::Result<Option<TypeHeadAndPayload>> {
    let mut head = [0; 5];
    match socket.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if is_closed(&error) => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut payload = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    match socket.read_exact(&mut payload) {
        Ok(()) => Ok(Some((head[0], head, payload))),
        Err(error) if is_closed(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How the server answers without encryption: the name of its alert, `closed`, or `answered` for a
/// ServerHello.
pub(crate) fn plain_answer(socket: &mut Socket) -> String {
    match record(socket) {
        Ok(Some((ALERT, _, payload))) if payload.len() == 2 => {
            format!("{:?}", AlertDescription::from(payload[1]))
        }
        Ok(Some((HANDSHAKE, _, _))) => "answered".to_owned(),
        Ok(Some((kind, ..))) => format!("a record of type {kind}"),
        Ok(None) => "closed".to_owned(),
        Err(error) => format!("no answer: {error}"),
    }
}

/// Sends bytes and returns the answer without encryption. If the server closes before it has read
/// everything, its answer counts.
pub(crate) fn send(socket: &mut Socket, bytes: &[u8]) -> String {
    match socket.write_all(bytes) {
        Err(error) if !is_closed(&error) => return format!("not sent: {error}"),
        Ok(()) | Err(_) => {}
    }
    plain_answer(socket)
}

/// A connection after its handshake, whose records the test makes itself. Its suite is one with
/// ChaCha20.
pub(crate) struct Records {
    socket: Socket,
    is_new: bool,
    to_server: (u64, LessSafeKey, [u8; 12]),
    from_server: (u64, LessSafeKey, [u8; 12]),
}

type Half = (u64, ConnectionTrafficSecrets);

fn half((sequence, secrets): Half) -> (u64, LessSafeKey, [u8; 12]) {
    let ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } = secrets else {
        panic!("another suite")
    };
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).unwrap();
    (sequence, LessSafeKey::new(key), iv.as_ref().try_into().unwrap())
}

fn nonce(iv: [u8; 12], sequence: u64) -> Nonce {
    let mut bytes = iv;
    for (byte, more) in bytes[4..].iter_mut().zip(sequence.to_be_bytes()) {
        *byte ^= more;
    }
    Nonce::assume_unique_for_key(bytes)
}

impl Records {
    pub(crate) fn of(conn: ClientConnection, socket: Socket) -> Records {
        let is_new = conn.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
        let secrets = conn.dangerous_extract_secrets().unwrap();
        let (to_server, from_server) = (half(secrets.tx), half(secrets.rx));
        Records { socket, is_new, to_server, from_server }
    }

    /// A record of this type, encrypted.
    pub(crate) fn sealed(&mut self, kind: u8, payload: &[u8]) -> Vec<u8> {
        self.sealed_inner(kind, &[payload, &[kind][..usize::from(self.is_new)]].concat())
    }

    /// A record whose inner type, in TLS 1.3, is the last byte of the payload.
    pub(crate) fn sealed_inner(&mut self, kind: u8, payload: &[u8]) -> Vec<u8> {
        let (sequence, key, iv) = &mut self.to_server;
        let kind = if self.is_new { DATA } else { kind };
        let len = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
        let head = [&[kind, 3, 3][..], &len(payload.len() + 16)].concat();
        let old = [&sequence.to_be_bytes()[..], &[kind, 3, 3], &len(payload.len())].concat();
        let extra = if self.is_new { head.clone() } else { old };
        let mut sealed = payload.to_vec();
        let nonce = nonce(*iv, *sequence);
        key.seal_in_place_append_tag(nonce, Aad::from(extra), &mut sealed).unwrap();
        *sequence += 1;
        [head, sealed].concat()
    }

    /// Sends bytes. Returns `served` if the server answers a request after them, the name of its
    /// alert, or `closed`.
    pub(crate) fn send(mut self, bytes: &[u8]) -> String {
        let request = self.sealed(DATA, REQUEST);
        match self.socket.write_all(&[bytes, &request].concat()) {
            Err(error) if !is_closed(&error) => return format!("not sent: {error}"),
            Ok(()) | Err(_) => {}
        }
        loop {
            match self.open() {
                Ok(Some((ALERT, payload))) if payload.len() == 2 && payload[1] == 0 => {}
                Ok(Some((ALERT, payload))) if payload.len() == 2 => {
                    return format!("{:?}", AlertDescription::from(payload[1]));
                }
                Ok(Some((DATA, payload))) if payload.starts_with(b"HTTP/1.1 ") => {
                    return "served".to_owned();
                }
                // Of a handshake, such as an answer to a change of keys.
                Ok(Some((HANDSHAKE, _))) => {}
                Ok(Some((kind, payload))) => {
                    return format!("a record of type {kind}: {payload:?}");
                }
                Ok(None) => return "closed".to_owned(),
                Err(error) => return format!("no answer: {error}"),
            }
        }
    }

    /// The next record of the server.
    fn open(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        let Some((kind, head, mut payload)) = record(&mut self.socket)? else { return Ok(None) };
        let (sequence, key, iv) = &mut self.from_server;
        let len = u16::try_from(payload.len().saturating_sub(16)).unwrap().to_be_bytes();
        let old = [&sequence.to_be_bytes()[..], &head[..3], &len].concat();
        let extra = if self.is_new { head.to_vec() } else { old };
        let nonce = nonce(*iv, *sequence);
        let opened = key.open_in_place(nonce, Aad::from(extra), &mut payload);
        let opened = opened.map_err(|_| io::Error::other("a record cannot be decrypted"))?;
        *sequence += 1;
        if !self.is_new {
            return Ok(Some((kind, opened.to_vec())));
        }
        let (kind, inner) = opened.split_last().unwrap();
        Ok(Some((*kind, inner.to_vec())))
    }
}

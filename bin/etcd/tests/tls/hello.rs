//! The first message of a client, field by field, so that each can be wrong.
//!
//! Source: RFC 8446 §4.1.2 and §4.2, RFC 5246 §7.4.1.

use crate::wire::HANDSHAKE;

/// The numbers of extensions.
const SERVER_NAME: u16 = 0;
const GROUPS: u16 = 10;
const SCHEMES: u16 = 13;
const PROTOCOLS: u16 = 16;
const PRE_SHARED_KEY: u16 = 41;
const VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;

/// A ClientHello.
#[derive(Clone)]
pub(crate) struct Hello {
    version: [u8; 2],
    session: Vec<u8>,
    suites: Vec<u8>,
    compressions: Vec<u8>,
    extensions: Vec<(u16, Vec<u8>)>,
}

fn u16_of(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap().to_be_bytes()
}

/// Bytes behind their length in two bytes.
fn long(bytes: &[u8]) -> Vec<u8> {
    [&u16_of(bytes.len()), bytes].concat()
}

/// Bytes behind their length in one byte.
fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

/// A message of the handshake.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind], &len[1..], body].concat()
}

/// A record.
pub(crate) fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1], &long(payload)[..]].concat()
}

/// A share of X25519.
fn share(group: [u8; 2], key: &[u8]) -> Vec<u8> {
    long(&[&group[..], &long(key)].concat())
}

impl Hello {
    /// One that a server of TLS 1.3 answers.
    pub(crate) fn new() -> Hello {
        Hello {
            version: [3, 3],
            session: vec![7; 32],
            suites: vec![0x13, 0x01, 0x13, 0x02, 0x13, 0x03],
            compressions: vec![0],
            extensions: vec![
                (VERSIONS, short(&[3, 4])),
                (GROUPS, long(&[0, 0x1d, 0, 0x17])),
                (SCHEMES, long(&[4, 3, 8, 4, 8, 7])),
                (KEY_SHARE, share([0, 0x1d], &[9; 32])),
            ],
        }
    }

    /// One that a server of TLS 1.2 answers.
    pub(crate) fn of_1_2() -> Hello {
        Hello {
            suites: vec![0xc0, 0x2b, 0xc0, 0x2c, 0xcc, 0xa9],
            extensions: vec![
                (GROUPS, long(&[0, 0x1d, 0, 0x17])),
                (11, short(&[0])),
                (SCHEMES, long(&[4, 3, 8, 4, 8, 7])),
            ],
            ..Hello::new()
        }
    }

    fn of(version: [u8; 2]) -> Hello {
        Hello { version, ..Hello::of_1_2() }
    }

    /// With another content of an extension.
    fn with(mut self, number: u16, content: Vec<u8>) -> Hello {
        self.extensions.retain(|(other, _)| *other != number);
        self.extensions.push((number, content));
        self
    }

    fn without(mut self, number: u16) -> Hello {
        self.extensions.retain(|(other, _)| *other != number);
        self
    }

    fn body(&self) -> Vec<u8> {
        let extension = |(number, content): &(u16, Vec<u8>)| {
            [&number.to_be_bytes()[..], &long(content)].concat()
        };
        let extensions: Vec<u8> = self.extensions.iter().flat_map(extension).collect();
        [
            &self.version[..],
            &[5; 32],
            &short(&self.session),
            &long(&self.suites),
            &short(&self.compressions),
            &long(&extensions),
        ]
        .concat()
    }

    pub(crate) fn message(&self) -> Vec<u8> {
        message(1, &self.body())
    }

    pub(crate) fn record(&self) -> Vec<u8> {
        record(HANDSHAKE, &self.message())
    }
}

/// What is wrong with a hello, its bytes, and the server's answer.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(crate) fn bad_hellos() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let new = Hello::new;
    let old = Hello::of_1_2;
    let changed = |change: fn(&mut Hello)| {
        let mut hello = new();
        change(&mut hello);
        hello.record()
    };
    let ssl_2 = [&[0x80, 46, 1, 0, 2, 0, 21, 0, 0, 0, 16], &[3; 35][..]].concat();
    let no_extensions = |version: [u8; 2]| {
        let body = [&version[..], &[5; 32], &[0, 0, 2, 0, 0x2f, 1, 0]].concat();
        record(HANDSHAKE, &message(1, &body))
    };
    let mut twice = new();
    twice.extensions.push((GROUPS, long(&[0, 0x1d])));
    let mut psk_first = new();
    let psk = [long(&[&long(b"ticket")[..], &[0; 4]].concat()), long(&short(&[6; 32]))].concat();
    psk_first.extensions.insert(0, (PRE_SHARED_KEY, psk.clone()));
    let psk_without_modes = new().with(PRE_SHARED_KEY, psk);
    let mut behind = new().body();
    behind.extend([0; 4]);
    let mut longer_than_all = new().body();
    let at = longer_than_all.len() - 38;
    longer_than_all[at] = 0xff;
    let off_curve = new().with(GROUPS, long(&[0, 0x17]));
    let on_no_curve = off_curve.with(KEY_SHARE, share([0, 0x17], &[4; 65])).record();
    let name = |name: &[u8]| long(&[&[0][..], &long(name)].concat());
    vec![
        ("SSL 2.0", ssl_2, "DecodeError"),
        ("SSL 3.0", no_extensions([3, 0]), "HandshakeFailure"),
        ("TLS 1.0", no_extensions([3, 1]), "HandshakeFailure"),
        ("TLS 1.1", no_extensions([3, 2]), "HandshakeFailure"),
        ("TLS 1.0 with extensions", Hello::of([3, 1]).record(), "ProtocolVersion"),
        ("TLS 1.1 with extensions", Hello::of([3, 2]).record(), "ProtocolVersion"),
        ("TLS 0.9", Hello::of([2, 9]).record(), "ProtocolVersion"),
        (
            "only old versions",
            new().with(VERSIONS, short(&[3, 2, 3, 1])).record(),
            "ProtocolVersion",
        ),
        (
            "only an unknown version",
            new().with(VERSIONS, short(&[0x7f, 0x1c])).record(),
            "ProtocolVersion",
        ),
        ("no version", new().with(VERSIONS, short(&[])).record(), "DecodeError"),
        ("half a version", new().with(VERSIONS, short(&[3])).record(), "DecodeError"),
        ("RSA key exchange with CBC", no_extensions([3, 3]), "HandshakeFailure"),
        ("RC4 and 3DES", Hello { suites: vec![0, 5, 0, 10], ..old() }.record(), "HandshakeFailure"),
        (
            "no encryption",
            Hello { suites: vec![0, 1, 0, 2, 0, 0x3b], ..old() }.record(),
            "HandshakeFailure",
        ),
        (
            "anonymous suites",
            Hello { suites: vec![0, 0x34, 0xc0, 0x18], ..old() }.record(),
            "HandshakeFailure",
        ),
        (
            "suites for RSA",
            Hello { suites: vec![0xc0, 0x2f, 0xc0, 0x30], ..old() }.record(),
            "HandshakeFailure",
        ),
        (
            "unknown suites of TLS 1.3",
            Hello { suites: vec![0x13, 0x7f], ..new() }.record(),
            "HandshakeFailure",
        ),
        (
            "suites of TLS 1.2 for TLS 1.3",
            Hello { suites: vec![0xc0, 0x2b], ..new() }.record(),
            "HandshakeFailure",
        ),
        ("no suite", changed(|hello| hello.suites.clear()), "DecodeError"),
        ("half a suite", changed(|hello| hello.suites.push(7)), "DecodeError"),
        ("compression only", Hello { compressions: vec![1], ..old() }.record(), "IllegalParameter"),
        (
            "compression only, TLS 1.3",
            changed(|hello| hello.compressions = vec![1]),
            "IllegalParameter",
        ),
        ("no compression method", Hello { compressions: vec![], ..old() }.record(), "DecodeError"),
        ("a session id of 33 bytes", changed(|hello| hello.session.push(7)), "DecodeError"),
        (
            "no extensions of TLS 1.3",
            Hello { extensions: vec![(VERSIONS, short(&[3, 4]))], ..new() }.record(),
            "HandshakeFailure",
        ),
        ("no key share", new().without(KEY_SHARE).record(), "HandshakeFailure"),
        (
            "a key share of 31 bytes",
            new().with(KEY_SHARE, share([0, 0x1d], &[9; 31])).record(),
            "IllegalParameter",
        ),
        (
            "a key share of zeros",
            new().with(KEY_SHARE, share([0, 0x1d], &[0; 32])).record(),
            "IllegalParameter",
        ),
        ("a point that is on no curve", on_no_curve, "IllegalParameter"),
        (
            "a key share without end",
            new().with(KEY_SHARE, vec![0, 99, 0, 0x1d]).record(),
            "DecodeError",
        ),
        ("no groups", new().without(GROUPS).record(), "HandshakeFailure"),
        ("unknown groups", new().with(GROUPS, long(&[0x7f, 0x7f])).record(), "HandshakeFailure"),
        ("no signature schemes", new().without(SCHEMES).record(), "HandshakeFailure"),
        ("an empty list of schemes", new().with(SCHEMES, long(&[])).record(), "DecodeError"),
        (
            "SHA-1 signatures only",
            new().with(SCHEMES, long(&[2, 3, 2, 1])).record(),
            "answered, closed",
        ),
        (
            "SHA-1 signatures only, TLS 1.2",
            old().with(SCHEMES, long(&[2, 3, 2, 1])).record(),
            "HandshakeFailure",
        ),
        (
            "RSA signatures only",
            new().with(SCHEMES, long(&[8, 4, 4, 1])).record(),
            "answered, closed",
        ),
        ("an extension twice", twice.record(), "IllegalParameter"),
        (
            "an extension that is longer than all",
            record(HANDSHAKE, &message(1, &longer_than_all)),
            "DecodeError",
        ),
        ("bytes behind the extensions", record(HANDSHAKE, &message(1, &behind)), "DecodeError"),
        ("an empty list of names", new().with(SERVER_NAME, long(&[])).record(), "DecodeError"),
        (
            "half a name",
            new().with(SERVER_NAME, vec![0, 9, 0, 0, 30, b'a']).record(),
            "DecodeError",
        ),
        (
            "a name with a zero byte",
            new().with(SERVER_NAME, name(b"a\0b")).record(),
            "IllegalParameter",
        ),
        ("an empty list of protocols", new().with(PROTOCOLS, long(&[])).record(), "DecodeError"),
        ("a protocol without a name", new().with(PROTOCOLS, long(&[0])).record(), "DecodeError"),
        ("a key of before that is not last", psk_first.record(), "IllegalParameter"),
        ("a key of before without its modes", psk_without_modes.record(), "MissingExtension"),
        ("two hellos", [new().record(), new().record()].concat(), "answered, closed"),
    ]
}

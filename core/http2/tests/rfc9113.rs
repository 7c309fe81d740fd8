//! The rules of RFC 9113 that concern a server, as scripts: `testdata/*.txt`. A case is one
//! connection; its lines are what the client sends and what the caller does; its output is what
//! happened and the frames that were written.
//!
//! A line of a client: `frame KIND FLAGS STREAM HEX`, `request ID [end] [name=value …]` (with the
//! usual fields first; `-name` leaves one out; `late` puts pseudo-header fields behind the others), `data ID LENGTH [end]`, `trailers ID [name=value …]`,
//! `settings NAME=VALUE …`, `continuation ID LENGTH`, `update ID MORE`, `reset ID CODE`, `ping`, `times N LINE`.
//! A line of the caller: `respond ID`, `write ID LENGTH`, `end ID`, `take ID LENGTH`, `discard ID LENGTH`, `turns`,
//! `shutdown`, `refuse ID`.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use bytes::Bytes;
use http2::{ClientEvent, Connection, End, Limits, Reason, StreamKey};
use std::collections::BTreeMap;
use std::fmt::Write as _;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn hex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

fn literal(name: &str, value: &str, block: &mut Vec<u8>) {
    block.push(0);
    for text in [name, value] {
        let len = u8::try_from(text.len()).unwrap();
        assert!(len < 127);
        block.push(len);
        block.extend_from_slice(text.as_bytes());
    }
}

/// The block of `name=value` words; `%XX` is a byte.
fn block(words: &[&str]) -> Vec<u8> {
    let mut block = Vec::new();
    for word in words {
        let (name, value) = word.split_once('=').unwrap();
        literal(name, &value.replace("%20", " ").replace("%0a", "\n"), &mut block);
    }
    block
}

fn request(words: &[&str]) -> Vec<u8> {
    let usual = [":method=POST", ":scheme=http", ":path=/a/b", ":authority=x", "te=trailers"];
    let mut all: Vec<&str> = usual.to_vec();
    for word in words {
        match word.strip_prefix('-') {
            Some(name) => all.retain(|field| field.split_once('=').unwrap().0 != name),
            // Pseudo-header fields go before the others, unless the line has `late`.
            None if word.starts_with(':') && !words.contains(&"late") => {
                let place = all.iter().position(|field| !field.starts_with(':'));
                all.insert(place.unwrap_or(all.len()), word);
            }
            None if *word == "late" => {}
            None => all.push(word),
        }
    }
    block(&all)
}

/// The bytes of a client's line; `None` for a line of the caller.
fn client(line: &str) -> Option<Vec<u8>> {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    let id = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(0_u32);
    let ended = words.contains(&"end") && words[0] != "end";
    words.retain(|word| *word != "end");
    let flags = u8::from(ended);
    let number = |at: usize| words[at].parse::<u32>().unwrap();
    Some(match words[0] {
        "frame" => {
            let kind = u8::try_from(number(1)).unwrap();
            let flags = u8::from_str_radix(words[2], 16).unwrap();
            frame(kind, flags, number(3), &hex(words.get(4).unwrap_or(&"")))
        }
        "request" => frame(1, flags | 4, id, &request(&words[2..])),
        "trailers" => frame(1, 5, id, &block(&words[2..])),
        "data" => frame(0, flags, id, &vec![7; number(2) as usize]),
        "settings" => {
            let mut payload = Vec::new();
            for word in &words[1..] {
                let (name, value) = word.split_once('=').unwrap();
                payload.extend(name.parse::<u16>().unwrap().to_be_bytes());
                payload.extend(value.parse::<u32>().unwrap().to_be_bytes());
            }
            frame(4, 0, 0, &payload)
        }
        "continuation" => frame(9, 0, id, &vec![0; number(2) as usize]),
        "update" => frame(8, 0, id, &number(2).to_be_bytes()),
        "reset" => frame(3, 0, id, &number(2).to_be_bytes()),
        "ping" => frame(6, 0, 0, b"12345678"),
        "times" => client(&words[2..].join(" ")).unwrap().repeat(number(1) as usize),
        _ => return None,
    })
}

struct World {
    http2: Connection,
    input: Vec<u8>,
    keys: BTreeMap<u32, StreamKey>,
    out: String,
}

impl World {
    fn new() -> World {
        let limits = Limits {
            streams_max: 3,
            stream_window: 1_000,
            connection_window: 100_000,
            frame_max: 16_384,
            headers_max: 1_000,
            unsent_max: 40_000,
        };
        let mut http2 = Connection::new(limits);
        let opening = http2.unsent().len();
        http2.sent(opening);
        World { http2, input: Vec::new(), keys: BTreeMap::new(), out: String::new() }
    }

    fn say(&mut self, what: std::fmt::Arguments<'_>) {
        writeln!(self.out, "{what}").unwrap();
    }

    /// Passes the input to the connection. Returns false when the connection has ended.
    fn receive(&mut self) -> bool {
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        loop {
            let received = match self.http2.receive(rest, 5) {
                Ok(received) => received,
                Err(fault) => {
                    self.say(format_args!("fault {fault}"));
                    return false;
                }
            };
            rest = &rest[received.used..];
            match received.event {
                None => break,
                Some(ClientEvent::Request { stream, head, ended }) => {
                    self.keys.insert(stream.id, stream);
                    let path = String::from_utf8_lossy(head.path()).into_owned();
                    let end = if ended { " ended" } else { "" };
                    self.say(format_args!("request {} {path}{end}", stream.id));
                }
                Some(ClientEvent::Data { stream, data, ended }) => {
                    let end = if ended { " ended" } else { "" };
                    self.say(format_args!("data {} {}{end}", stream.id, data.len()));
                }
                Some(ClientEvent::Ended(stream)) => self.say(format_args!("ended {}", stream.id)),
                Some(ClientEvent::Reset(stream, reason)) => {
                    self.say(format_args!("reset {} {}", stream.id, reason.name()));
                }
                Some(ClientEvent::Refused(why)) => self.say(format_args!("refused {why:?}")),
                Some(ClientEvent::Alive) => self.say(format_args!("alive")),
            }
        }
        self.input = rest.to_vec();
        true
    }

    fn caller(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let id: u32 = words.get(1).map_or(0, |word| word.parse().unwrap());
        let len: usize = words.get(2).map_or(0, |word| word.parse().unwrap());
        let key = self.keys.get(&id).copied().unwrap_or(StreamKey { slot: 99, id: 99 });
        match words[0] {
            "respond" => self.http2.send_grpc_head(key),
            "write" => self.http2.send_data(key, Bytes::from(vec![7; len])),
            "end" => self.http2.send_end(key, End::Success),
            "take" => self.http2.take(key, len),
            "discard" => self.http2.discard(key, len),
            "want" => self.http2.want_room(key),
            "refuse" => self.http2.reset(key, Reason::CANCEL),
            "shutdown" => self.http2.shut_down(),
            "turns" => {
                while let Some(stream) = self.http2.next_with_room() {
                    self.say(format_args!("room {}", stream.id));
                }
            }
            other => panic!("no line {other}"),
        }
    }

    /// Describes the frames that were written.
    fn written(&mut self) {
        let out = self.http2.unsent().to_vec();
        self.http2.sent(out.len());
        let mut rest = &out[..];
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
        while !rest.is_empty() {
            let len = number(&[&[0], &rest[..3]].concat()) as usize;
            let (kind, flags, stream) = (rest[3], rest[4], number(&rest[5..]));
            let payload = &rest[9..9 + len];
            rest = &rest[9 + len..];
            let reason = |bytes: &[u8]| Reason(number(bytes)).name();
            let end = if flags & 1 != 0 { " end" } else { "" };
            let text = match kind {
                0 => format!("DATA {stream} {len}{end}"),
                1 => format!("HEADERS {stream} {}{end}", payload.escape_ascii()),
                3 => format!("RST_STREAM {stream} {}", reason(payload)),
                4 => format!("SETTINGS{}", if flags & 1 != 0 { " ack" } else { "" }),
                6 => format!(
                    "PING{} {}",
                    if flags & 1 != 0 { " ack" } else { "" },
                    payload.escape_ascii()
                ),
                7 => format!("GOAWAY {} {}", number(payload), reason(&payload[4..])),
                8 => format!("WINDOW_UPDATE {stream} {}", number(payload)),
                other => format!("kind {other}"),
            };
            self.say(format_args!("> {text}"));
        }
    }
}

fn connection(lines: &str) -> String {
    let mut world = World::new();
    for line in lines.lines() {
        match client(line) {
            Some(bytes) => {
                // In two parts: a frame may arrive in pieces.
                let middle = bytes.len() / 2;
                for part in [&bytes[..middle], &bytes[middle..]] {
                    world.input.extend_from_slice(part);
                    if !world.receive() {
                        world.written();
                        return world.out;
                    }
                }
            }
            None => world.caller(line),
        }
        world.written();
    }
    if world.http2.is_done() {
        world.out.push_str("done\n");
    }
    world.out
}

/// Replaces repeated lines by one line with their number.
fn collapsed(text: &str) -> String {
    let mut out = String::new();
    let lines: Vec<&str> = text.lines().collect();
    for same in lines.chunk_by(|left, right| left == right) {
        match same.len() {
            1..=3 => same.iter().for_each(|line| writeln!(out, "{line}").unwrap()),
            times => writeln!(out, "{times} times {}", same[0]).unwrap(),
        }
    }
    out
}

#[test]
fn a_server_keeps_the_rules_of_rfc_9113() {
    for path in script::scripts(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata")) {
        script::run(path, |case| collapsed(&connection(&case.input)));
    }
}

/// Opens and resets streams. If the connection ends, returns after how many.
fn resets(count: u32, is_answered: bool, now_ms: impl Fn(u32) -> u64) -> Option<(u32, Reason)> {
    let mut http2 = Connection::new(Limits::default());
    http2.receive(&frame(4, 0, 0, &[]), 0).unwrap();
    for at in 0..count {
        let id = 2 * at + 1;
        let bytes = frame(1, 4, id, &request(&[]));
        let received = http2.receive(&bytes, now_ms(at)).unwrap();
        let Some(ClientEvent::Request { stream, .. }) = received.event else {
            panic!("no request")
        };
        if is_answered {
            http2.send_grpc_head(stream);
        }
        let unsent = http2.unsent().len();
        http2.sent(unsent);
        if let Err(fault) = http2.receive(&frame(3, 0, id, &[0, 0, 0, 8]), now_ms(at)) {
            assert!(!http2.unsent().is_empty(), "the client is told");
            return Some((at, fault.reason));
        }
        assert_eq!(http2.streams(), 0);
    }
    None
}

#[test]
fn a_client_that_resets_too_many_unanswered_streams_at_once_is_cut_off() {
    let max = http2::RESETS_MAX;
    assert_eq!(resets(max, false, |_| 7), None);
    assert_eq!(resets(max + 1, false, |_| 7), Some((max, Reason::ENHANCE_YOUR_CALM)));
    assert_eq!(resets(3 * max, true, |_| 7), None);
    assert_eq!(resets(3 * max, false, u64::from), None, "a thousand in each second");
}

#[test]
fn requests_that_depend_on_themselves_count_as_resets() {
    let mut http2 = Connection::new(Limits::default());
    http2.receive(&frame(4, 0, 0, &[]), 0).unwrap();
    let mut open = |at: u32| {
        let id = 2 * at + 1;
        let priority = [&id.to_be_bytes()[..], &[16]].concat();
        let bytes = frame(1, 0x24, id, &[priority, request(&[])].concat());
        let result = http2.receive(&bytes, 7).map(|read| read.used).map_err(|fault| fault.reason);
        let unsent = http2.unsent().len();
        http2.sent(unsent);
        result
    };
    assert!((0..http2::RESETS_MAX).all(|at| open(at).is_ok()));
    assert_eq!(open(http2::RESETS_MAX), Err(Reason::ENHANCE_YOUR_CALM));
}

/// RFC 9113 §6.9.1.
#[test]
fn more_data_than_the_connections_window_ends_the_connection() {
    let limits = Limits { stream_window: 200_000, connection_window: 100_000, ..Limits::default() };
    let mut http2 = Connection::new(limits);
    let open = [frame(4, 0, 0, &[]), frame(1, 4, 1, &request(&[]))].concat();
    http2.receive(&open, 0).unwrap();
    let data = frame(0, 0, 1, &[7; 50_000]);
    for _ in 0..2 {
        assert!(http2.receive(&data, 0).is_ok());
    }
    let fault = http2.receive(&frame(0, 0, 1, &[7]), 0).unwrap_err();
    assert_eq!(fault.reason, Reason::FLOW_CONTROL_ERROR);
}

#[test]
fn data_that_nobody_reads_opens_the_connections_window_only() {
    let limits = Limits { stream_window: 200_000, connection_window: 100_000, ..Limits::default() };
    let mut http2 = Connection::new(limits);
    let open = [frame(4, 0, 0, &[]), frame(1, 4, 1, &request(&[]))].concat();
    let received = http2.receive(&open, 0).unwrap();
    let Some(ClientEvent::Request { stream, .. }) = received.event else { panic!("no request") };
    let unsent = http2.unsent().len();
    http2.sent(unsent);
    http2.receive(&frame(0, 0, 1, &[7; 60_000]), 0).unwrap();
    http2.discard(stream, 60_000);
    assert_eq!(http2.unsent(), frame(8, 0, 0, &60_000_u32.to_be_bytes()));
}

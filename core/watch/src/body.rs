//! The part of a response that watchers share: events, encoded as the field `events` of a
//! `WatchResponse`. It is encoded once for all watchers that receive the same events.

use crate::{Event, EventKind, History};
use bytes::{BufMut, Bytes, BytesMut};
use proto::varint;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Encoded events.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) events: Bytes,
    /// The end offset of each event.
    pub(crate) ends: Vec<usize>,
}

/// Encodes subsets of a list of events, each once.
#[derive(Debug)]
pub(crate) struct Encoder<'a, H> {
    events: &'a [Event],
    history: &'a H,
    /// The previous key-value of each event, once it was looked up.
    previous: Vec<Option<Option<Bytes>>>,
    /// The bodies by the places of their events: without and with `prev_kv`.
    bodies: BTreeMap<Vec<usize>, [Option<Arc<Body>>; 2]>,
}

const EVENTS: u8 = 11 << 3 | 2;
const TYPE: u8 = 1 << 3;
const KV: u8 = 2 << 3 | 2;
const PREV_KV: u8 = 3 << 3 | 2;

fn field_len(bytes: &Bytes) -> usize {
    1 + varint::len(bytes.len() as u64) + bytes.len()
}

fn put_field(to: &mut BytesMut, tag: u8, bytes: &Bytes) {
    to.put_u8(tag);
    varint::put(to, bytes.len() as u64);
    to.put_slice(bytes);
}

fn put_event(to: &mut BytesMut, event: &Event, previous: Option<&Bytes>) {
    let kind = match event.kind {
        EventKind::Put => 0,
        EventKind::Delete => 2,
    };
    let len = kind + field_len(&event.kv) + previous.map_or(0, field_len);
    to.reserve(1 + varint::len(len as u64) + len);
    to.put_u8(EVENTS);
    varint::put(to, len as u64);
    if kind > 0 {
        to.put_slice(&[TYPE, 1]);
    }
    put_field(to, KV, &event.kv);
    if let Some(previous) = previous {
        put_field(to, PREV_KV, previous);
    }
}

impl<'a, H: History> Encoder<'a, H> {
    pub(crate) fn new(events: &'a [Event], history: &'a H) -> Encoder<'a, H> {
        Encoder { events, history, previous: vec![None; events.len()], bodies: BTreeMap::new() }
    }

    /// The encoded events at these places.
    pub(crate) fn body(&mut self, places: &[usize], prev_kv: bool) -> Result<Arc<Body>, H::Error> {
        let known = self.bodies.get(places).and_then(|two| two[usize::from(prev_kv)].clone());
        if let Some(body) = known {
            return Ok(body);
        }
        let mut buffer = BytesMut::new();
        let mut ends = Vec::with_capacity(places.len());
        for place in places {
            let previous = if prev_kv { self.previous(*place)? } else { None };
            put_event(&mut buffer, &self.events[*place], previous.as_ref());
            ends.push(buffer.len());
        }
        let body = Arc::new(Body { events: buffer.freeze(), ends });
        let two = self.bodies.entry(places.to_vec()).or_default();
        two[usize::from(prev_kv)] = Some(Arc::clone(&body));
        Ok(body)
    }

    fn previous(&mut self, place: usize) -> Result<Option<Bytes>, H::Error> {
        if let Some(previous) = &self.previous[place] {
            return Ok(previous.clone());
        }
        let event = &self.events[place];
        let previous = if event.is_create() {
            None
        } else {
            self.history.value_at(&event.key, event.mod_revision - 1)?
        };
        self.previous[place] = Some(previous.clone());
        Ok(previous)
    }

    /// The total bytes of the bodies that are referenced elsewhere.
    pub(crate) fn kept_bytes(&self) -> usize {
        let bodies = self.bodies.values().flatten().flatten();
        let kept = bodies.filter(|body| Arc::strong_count(body) > 1);
        kept.map(|body| body.events.len()).sum()
    }
}

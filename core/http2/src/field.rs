//! Header fields: their bytes, and their meaning in a request. A field is checked once, when it is
//! created; requests that refer to it by its index share it.
//!
//! A value may have all characters that Go's server accepts: visible characters, spaces, tabs and
//! bytes above 127, in any position. `:authority` is not parsed.
//!
//! Source: RFC 9113 §8.2, §8.3; RFC 7541 appendix A; golang.org/x/net/http2 frame.go and
//! http/httpguts.

use std::rc::Rc;

/// The size of an entry besides its name and value, in bytes.
pub(crate) const OVERHEAD: usize = 32;

/// A header field with its original bytes. Cheap to clone.
#[derive(Clone)]
pub struct Field(Source);

#[derive(Clone)]
enum Source {
    /// An entry of the static table; its position counts from 0.
    Fixed(u8),
    Own(Rc<Parts>),
}

struct Parts {
    name_len: usize,
    /// The name, then the value.
    bytes: Box<[u8]>,
    kind: Kind,
}

impl Field {
    /// The field of the static table at this position, from 0; `None` beyond its end.
    pub(crate) fn of_static_table(place: usize) -> Option<Field> {
        let place = u8::try_from(place).ok().filter(|_| place < STATIC.len())?;
        Some(Field(Source::Fixed(place)))
    }

    /// A field of these bytes. Its kind tells whether they are valid.
    pub(crate) fn new(name: &[u8], value: &[u8]) -> Field {
        let kind = Kind::of(name, value);
        let bytes = [name, value].concat().into_boxed_slice();
        Field(Source::Own(Rc::new(Parts { name_len: name.len(), bytes, kind })))
    }

    fn fixed(place: u8) -> (&'static [u8], &'static [u8]) {
        let (name, value) = STATIC[usize::from(place)];
        (name.as_bytes(), value.as_bytes())
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        match &self.0 {
            Source::Fixed(place) => Field::fixed(*place).0,
            Source::Own(parts) => &parts.bytes[..parts.name_len],
        }
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        match &self.0 {
            Source::Fixed(place) => Field::fixed(*place).1,
            Source::Own(parts) => &parts.bytes[parts.name_len..],
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match &self.0 {
            Source::Fixed(place) => Kind::of(self.name(), Field::fixed(*place).1),
            Source::Own(parts) => parts.kind,
        }
    }

    /// The size that counts against limits, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.name().len() + self.value().len() + OVERHEAD
    }
}

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name().escape_ascii(), self.value().escape_ascii())
    }
}

/// The meaning of a field in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Method,
    Scheme,
    Path,
    Authority,
    /// `content-length`, with its value.
    Length(u64),
    Regular,
    /// Not a field of a request: malformed.
    Bad,
}

impl Kind {
    /// Checks a field.
    pub(crate) fn of(name: &[u8], value: &[u8]) -> Kind {
        if !value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..)) {
            return Kind::Bad;
        }
        match name {
            b":method" if !value.is_empty() => Kind::Method,
            b":scheme" if !value.is_empty() => Kind::Scheme,
            b":path" => Kind::Path,
            b":authority" => Kind::Authority,
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding"
            | b"upgrade" => Kind::Bad,
            b"te" if value != b"trailers" => Kind::Bad,
            b"content-length" => {
                let digits = std::str::from_utf8(value).ok();
                let digits =
                    digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
                digits.and_then(|digits| digits.parse().ok()).map_or(Kind::Bad, Kind::Length)
            }
            name if is_token(name) => Kind::Regular,
            _ => Kind::Bad,
        }
    }

    pub(crate) fn is_pseudo(self) -> bool {
        matches!(self, Kind::Method | Kind::Scheme | Kind::Path | Kind::Authority)
    }
}

/// Whether this is a valid name: RFC 9110's token, without upper case.
fn is_token(name: &[u8]) -> bool {
    let allowed = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'^' | b'`' | b'|' | b'~');
    !name.is_empty() && name.iter().all(allowed)
}

/// The length of the static table.
pub(crate) const STATIC_LEN: usize = 61;

/// The static table, from number 1.
#[rustfmt::skip]
const STATIC: [(&str, &str); STATIC_LEN] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"),
    (":path", "/index.html"), (":scheme", "http"), (":scheme", "https"), (":status", "200"),
    (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""),
    ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""),
    ("authorization", ""), ("cache-control", ""), ("content-disposition", ""),
    ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""),
    ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""),
    ("vary", ""), ("via", ""), ("www-authenticate", ""),
];

//! The head of a request: its fields, checked.
//!
//! Source: RFC 9113 §8.1 to §8.3.

use crate::field::{Field, Kind};

/// Why a request is not served although its header block was decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadFault {
    Malformed,
    TooLarge,
}

/// The head of a request.
#[derive(Debug)]
pub struct Head {
    fields: Vec<Field>,
    method: usize,
    /// `None` only for CONNECT.
    path: Option<usize>,
    content_length: Option<u64>,
}

impl Head {
    /// The method.
    #[must_use]
    pub fn method(&self) -> &[u8] {
        self.fields[self.method].value()
    }

    /// The path, with its query.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        self.path.map_or(b"", |path| self.fields[path].value())
    }

    /// The value of the first field of this name, which must be in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let found = self.fields.iter().find(|field| field.name() == name.as_bytes());
        found.map(Field::value)
    }

    /// All fields in their order, pseudo-header fields first.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.content_length
    }
}

/// Collects the fields of a head.
pub(crate) struct HeadBuilder {
    head: Head,
    has: [bool; 4],
    size: usize,
    size_max: usize,
    fault: Option<HeadFault>,
}

impl HeadBuilder {
    /// A builder for a head of at most this size, counted as in RFC 9113 §6.5.2.
    pub(crate) fn new(size_max: usize) -> HeadBuilder {
        let head =
            Head { fields: Vec::with_capacity(12), method: 0, path: None, content_length: None };
        HeadBuilder { head, has: [false; 4], size: 0, size_max, fault: None }
    }

    /// Adds a field.
    pub(crate) fn take(&mut self, field: Field) {
        self.size = self.size.saturating_add(field.size());
        if self.size > self.size_max {
            self.head.fields.clear();
            self.fault = Some(HeadFault::TooLarge);
        }
        if self.fault.is_some() {
            return;
        }
        let at = self.head.fields.len();
        let kind = field.kind();
        let is_late = kind.is_pseudo()
            && self.head.fields.last().is_some_and(|last| !last.kind().is_pseudo());
        let mut once = |which: usize| std::mem::replace(&mut self.has[which], true);
        let is_bad = match kind {
            Kind::Method => {
                self.head.method = at;
                once(0)
            }
            Kind::Scheme => once(1),
            Kind::Path => {
                self.head.path = Some(at);
                once(2)
            }
            Kind::Authority => once(3),
            Kind::Length(length) => {
                let before = self.head.content_length.replace(length);
                before.is_some_and(|before| before != length)
            }
            Kind::Regular => false,
            Kind::Bad => true,
        };
        if is_bad || is_late {
            self.fault = Some(HeadFault::Malformed);
        }
        self.head.fields.push(field);
    }

    /// The head, if it is valid for a request.
    pub(crate) fn finish(self) -> Result<Head, HeadFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let [method, scheme, path, authority] = self.has;
        let is_whole = match method {
            true if self.head.method() == b"CONNECT" => authority && !scheme && !path,
            true => scheme && path && !self.head.path().is_empty(),
            false => false,
        };
        if is_whole { Ok(self.head) } else { Err(HeadFault::Malformed) }
    }
}

/// Checks the trailers of a request. They are not used otherwise.
#[derive(Debug, Default)]
pub(crate) struct TrailerCheck {
    size: usize,
    is_bad: bool,
}

impl TrailerCheck {
    pub(crate) fn take(&mut self, field: &Field) {
        self.size = self.size.saturating_add(field.size());
        self.is_bad |= field.kind().is_pseudo() || field.kind() == Kind::Bad;
    }

    /// Whether these are valid trailers of at most this size.
    pub(crate) fn passes(&self, size_max: usize) -> bool {
        !self.is_bad && self.size <= size_max
    }
}

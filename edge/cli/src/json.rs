//! JSON as Go's encoding/json writes structs: fields in their order, bytes in base64, and `<`,
//! `>`, `&` escaped.

use std::fmt::{Display, Write as _};

/// An object that is being written.
#[derive(Clone, Debug, Default)]
pub struct Object {
    /// Names and values, both as JSON.
    fields: Vec<(String, String)>,
    /// Whether strings are written as zap does, which leaves `<`, `>` and `&` as they are.
    zap: bool,
}

impl Object {
    /// No fields yet.
    #[must_use]
    pub fn new() -> Object {
        Object::default()
    }

    /// No fields yet; strings are written as zap does.
    #[must_use]
    pub fn zap() -> Object {
        Object { zap: true, ..Object::default() }
    }

    fn text_of(&self, bytes: &[u8]) -> String {
        if self.zap { zap_string(bytes) } else { string(bytes) }
    }

    /// A field whose value is JSON already.
    #[must_use]
    pub fn raw(mut self, name: &str, json: &str) -> Object {
        self.fields.push((self.text_of(name.as_bytes()), json.to_string()));
        self
    }

    /// A field that is left out when there is no value.
    #[must_use]
    pub fn optional(self, name: &str, json: Option<String>) -> Object {
        match json {
            Some(json) => self.raw(name, &json),
            None => self,
        }
    }

    /// A number or a boolean.
    #[must_use]
    pub fn plain(self, name: &str, value: impl Display) -> Object {
        self.raw(name, &value.to_string())
    }

    /// A number or a boolean that is left out when it is zero or false.
    #[must_use]
    pub fn nonzero<T: Display + Default + PartialEq>(self, name: &str, value: T) -> Object {
        if value == T::default() { self } else { self.plain(name, value) }
    }

    /// A string.
    #[must_use]
    pub fn string(self, name: &str, value: &str) -> Object {
        let json = self.text_of(value.as_bytes());
        self.raw(name, &json)
    }

    /// A string that is left out when it is empty.
    #[must_use]
    pub fn nonempty(self, name: &str, value: &str) -> Object {
        if value.is_empty() { self } else { self.string(name, value) }
    }

    /// Bytes in base64, left out when there are none.
    #[must_use]
    pub fn bytes(self, name: &str, value: &[u8]) -> Object {
        if value.is_empty() { self } else { self.raw(name, &base64(value)) }
    }

    /// A list that is left out when it is empty.
    #[must_use]
    pub fn list<T>(self, name: &str, items: &[T], json: impl Fn(&T) -> String) -> Object {
        if items.is_empty() { self } else { self.raw(name, &list(items, json)) }
    }

    /// Appends the fields of another object.
    #[must_use]
    pub fn and(mut self, other: &Object) -> Object {
        self.fields.extend(other.fields.iter().cloned());
        self
    }

    /// Whether there are no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The object.
    #[must_use]
    pub fn done(&self) -> String {
        self.text(":", ",")
    }

    /// The object with a space behind each colon and comma.
    #[must_use]
    pub fn spaced(&self) -> String {
        self.text(": ", ", ")
    }

    fn text(&self, colon: &str, comma: &str) -> String {
        let fields = self.fields.iter().map(|(name, value)| format!("{name}{colon}{value}"));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(comma))
    }
}

/// A list.
pub fn list<T>(items: &[T], json: impl Fn(&T) -> String) -> String {
    format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(","))
}

/// A string. Each byte that is not UTF-8 becomes U+FFFD.
#[must_use]
pub fn string(bytes: &[u8]) -> String {
    quoted(bytes, &['<', '>', '&', '\u{2028}', '\u{2029}'])
}

/// A string as zap's encoder writes it.
#[must_use]
pub fn zap_string(bytes: &[u8]) -> String {
    quoted(bytes, &[])
}

fn quoted(bytes: &[u8], unsafe_in_html: &[char]) -> String {
    let mut text = String::from('"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\x08' => text.push_str("\\b"),
                '\x0c' => text.push_str("\\f"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                other if other < ' ' || unsafe_in_html.contains(&other) => {
                    _ = write!(text, "\\u{:04x}", u32::from(character));
                }
                other => text.push(other),
            }
        }
        chunk.invalid().iter().for_each(|_| text.push_str("\\ufffd"));
    }
    text.push('"');
    text
}

/// Bytes as a JSON string in base64.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 6);
    text.push('"');
    for three in bytes.chunks(3) {
        let at = |i: usize| u32::from(three.get(i).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let six = (bits >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit <= three.len() { char::from(DIGITS[six]) } else { '=' });
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_keep_their_order_and_leave_out_what_is_empty() {
        let object =
            Object::new().nonzero("a", 0).plain("b", 0).bytes("c", b"ab").nonempty("d", "");
        assert_eq!(
            object.list("e", &[1, 2], i32::to_string).done(),
            r#"{"b":0,"c":"YWI=","e":[1,2]}"#
        );
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        assert_eq!(string(b"<a&b>\"\\\n\x01\xff "), r#""\u003ca\u0026b\u003e\"\\\n\u0001\ufffd ""#);
    }

    #[test]
    fn base64_is_padded() {
        for (bytes, text) in [(&b""[..], ""), (b"a", "YQ=="), (b"ab", "YWI="), (b"abc", "YWJj")] {
            assert_eq!(base64(bytes), format!("\"{text}\""));
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "\"+//+\"");
    }
}

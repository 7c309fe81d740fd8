//! JSON as Go's encoding/json writes it.
//!
//! Source: Go encoding/json `HTMLEscape`.

/// Escapes the three ASCII characters and two line separators that Go escapes and `serde_json` does
/// not. They occur only inside strings.
#[must_use]
pub fn escape(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn five_characters_are_escaped() {
        let json = "{\"a\":\"<&>\u{2028}\u{2029}é\"}";
        assert_eq!(escape(json), "{\"a\":\"\\u003c\\u0026\\u003e\\u2028\\u2029é\"}");
    }
}

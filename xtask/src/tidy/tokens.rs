//! A small lexer for Rust: words, signs and literals, without comments. It knows as much of the
//! language as the checks of `tidy` need.
//!
//! Not here: what the tokens mean (`modules`).

/// One token: a word, a sign, or a literal, which is shortened to `""` or `0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The text.
    pub(crate) text: String,
    /// The line, from 1.
    pub(crate) line: usize,
}

impl Token {
    /// Whether this is an identifier or a keyword.
    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }

    /// Whether the text is this one.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.text == text
    }
}

/// Signs of more than one character that must not be taken apart.
const SIGNS: [&str; 3] = ["::", "->", "=>"];

/// The tokens of a source text.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (length, token) = next(rest, first);
        if let Some(token) = token {
            found.push(Token { text: token.to_owned(), line });
        }
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}

/// The length of what stands at the start of a text, and its token if it is one.
fn next(text: &str, first: char) -> (usize, Option<&str>) {
    if first.is_whitespace() {
        return (first.len_utf8(), None);
    }
    if text.starts_with("//") {
        return (text.find('\n').unwrap_or(text.len()), None);
    }
    if text.starts_with("/*") {
        return (block_comment(text), None);
    }
    if let Some(length) = string(text) {
        return (length, Some("\"\""));
    }
    if first == '\'' {
        return quoted(text);
    }
    if first.is_alphanumeric() || first == '_' {
        let length = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        let token = if first.is_ascii_digit() { "0" } else { &text[..length] };
        return (length, Some(token));
    }
    for sign in SIGNS {
        if text.starts_with(sign) {
            return (sign.len(), Some(sign));
        }
    }
    (first.len_utf8(), Some(&text[..first.len_utf8()]))
}

/// The length of a block comment; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The length of the string literal that a text begins with, if it begins with one.
fn string(text: &str) -> Option<usize> {
    let prefix = text.find(|c| !matches!(c, 'b' | 'c' | 'r'))?;
    if prefix > 2 {
        return None;
    }
    let raw = text[..prefix].contains('r');
    let hashes = text[prefix..].find(|c| c != '#')?;
    let open = prefix + hashes;
    if !text[open..].starts_with('"') || (hashes > 0 && !raw) {
        return None;
    }
    let body = open + 1;
    if raw {
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(text[body..].find(&end).map_or(text.len(), |at| body + at + end.len()));
    }
    let bytes = text.as_bytes();
    let mut at = body;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
    Some(text.len())
}

/// A character literal, or a lifetime, which is no token.
fn quoted(text: &str) -> (usize, Option<&str>) {
    let mut characters = text.char_indices().skip(1);
    let (Some((_, first)), Some((second_at, second))) = (characters.next(), characters.next())
    else {
        return (text.len(), None);
    };
    if first == '\\' {
        // The escaped character may be a quote.
        let body = second_at + second.len_utf8();
        return (text[body..].find('\'').map_or(text.len(), |at| body + at + 1), Some("0"));
    }
    if second == '\'' {
        return (second_at + 1, Some("0"));
    }
    let name = text[1..].find(|c: char| !c.is_alphanumeric() && c != '_');
    (name.map_or(text.len(), |at| at + 1), None)
}

/// The tokens without the items that only tests have: those behind `#[cfg(test)]` or
/// `#[cfg(all(test, …))]`.
pub(crate) fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_test_only(&tokens[at..]) {
            at = item_end(tokens, at);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

fn is_test_only(tokens: &[Token]) -> bool {
    let starts = |signs: &[&str]| {
        tokens.len() >= signs.len() && tokens.iter().zip(signs).all(|(t, s)| t.is(s))
    };
    starts(&["#", "[", "cfg", "(", "test", ")"])
        || starts(&["#", "[", "cfg", "(", "all", "(", "test"])
}

/// Where the item ends whose attributes begin at `at`.
fn item_end(tokens: &[Token], mut at: usize) -> usize {
    while tokens.get(at).is_some_and(|t| t.is("#")) {
        at = closing(tokens, at + 1) + 1;
    }
    let is_use = tokens[at..].iter().take(5).any(|t| t.is("use"));
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            ";" => return at + 1,
            "{" if !is_use => return closing(tokens, at) + 1,
            "{" | "(" | "[" => at = closing(tokens, at),
            _ => {}
        }
        at += 1;
    }
    tokens.len()
}

/// Where the bracket closes that opens at `at`; the last token if it does not.
pub(crate) fn closing(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0usize;
    for (place, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return place;
                }
            }
            _ => {}
        }
    }
    tokens.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        tokens(text).into_iter().map(|t| t.text).collect()
    }

    #[test]
    fn comments_strings_and_lifetimes_hide_nothing_and_show_nothing() {
        let text = r##"a /* b /* c */ d */ e // f
            "g\"h" r#"i"j"# b"k" 'l' '\'' '\u{41}' m::<'n, O>(0x1f) r#type"##;
        let expected = [
            "a", "e", "\"\"", "\"\"", "\"\"", "0", "0", "0", "m", "::", "<", ",", "O", ">", "(",
            "0", ")", "r", "#", "type",
        ];
        assert_eq!(texts(text), expected);
    }

    #[test]
    fn tokens_know_their_lines() {
        let lines: Vec<usize> = tokens("a\n/*\n*/ b \"\n\" c").iter().map(|t| t.line).collect();
        assert_eq!(lines, [1, 3, 3, 4]);
    }

    #[test]
    fn items_of_tests_are_left_out() {
        let text = "#[cfg(test)] #[x(y)] mod a { b } c #[cfg(test)] use d::{e, f}; g \
                    #[cfg(all(test, loom))] fn h(i: J) -> K { l } #[cfg(not(test))] m";
        let kept: Vec<String> = without_tests(&tokens(text)).into_iter().map(|t| t.text).collect();
        assert_eq!(kept, ["c", "g", "#", "[", "cfg", "(", "not", "(", "test", ")", ")", "]", "m"]);
    }
}

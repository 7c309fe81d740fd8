//! Values in Go's notation: quoted strings, numbers, booleans and sizes.
//!
//! Source: the documentation of Go's strconv package; dustin/go-humanize @ 1.0.1 `Bytes`.

use std::fmt::Write as _;

/// A string in double quotes as Go's `%q` writes it. Bytes that are not UTF-8 become `\xNN`.
#[must_use]
pub fn quote(bytes: &[u8]) -> String {
    let mut quoted = String::from('"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                '\x07' => quoted.push_str("\\a"),
                '\x08' => quoted.push_str("\\b"),
                '\x0c' => quoted.push_str("\\f"),
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                '\t' => quoted.push_str("\\t"),
                '\x0b' => quoted.push_str("\\v"),
                plain if is_printable(plain) => quoted.push(plain),
                other => escape(&mut quoted, other),
            }
        }
        for byte in chunk.invalid() {
            _ = write!(quoted, "\\x{byte:02x}");
        }
    }
    quoted.push('"');
    quoted
}

fn escape(quoted: &mut String, character: char) {
    let code = u32::from(character);
    _ = match code {
        0..0x20 | 0x7f => write!(quoted, "\\x{code:02x}"),
        0x20..0x1_0000 => write!(quoted, "\\u{code:04x}"),
        _ => write!(quoted, "\\U{code:08x}"),
    };
}

/// `escape_debug` escapes the characters of the same Unicode categories as Go does. It also escapes
/// quotes and, at the start of a string, combining marks; therefore a letter is put before.
fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return (' '..='~').contains(&character);
    }
    let mut text = String::from('a');
    text.push(character);
    text.escape_debug().count() == 2
}

/// Reads one string in double quotes, or in back quotes, from the front of `text`, as Go's
/// `Sscanf("%q")` does; gives its bytes and what is behind it.
///
/// # Errors
/// Go's sentence about what is wrong.
pub fn unquote_front(text: &[u8]) -> Result<(Vec<u8>, &[u8]), String> {
    let unexpected = || "unexpected EOF".to_string();
    match text.first() {
        Some(b'`') => {
            let end = text[1..].iter().position(|byte| *byte == b'`').ok_or_else(unexpected)?;
            Ok((text[1..=end].to_vec(), &text[end + 2..]))
        }
        Some(b'"') => {
            let mut end = 1;
            while *text.get(end).ok_or_else(unexpected)? != b'"' {
                end += if text[end] == b'\\' { 2 } else { 1 };
            }
            let inside = unescape(&text[1..end]).ok_or("invalid syntax")?;
            Ok((inside, &text[end + 1..]))
        }
        None => Err(unexpected()),
        Some(_) => Err("expected quoted string".to_string()),
    }
}

/// The inside of a string in double quotes.
fn unescape(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some((&byte, rest)) = text.split_first() {
        text = rest;
        if byte == b'\n' {
            return None;
        }
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (&kind, rest) = text.split_first()?;
        text = rest;
        let digits = |count: usize, radix: u32| -> Option<u32> {
            let digits = std::str::from_utf8(rest.get(..count)?).ok()?;
            let all = digits.chars().all(|digit| digit.is_digit(radix));
            all.then(|| u32::from_str_radix(digits, radix).ok())?
        };
        match kind {
            b'a' => bytes.push(0x07),
            b'b' => bytes.push(0x08),
            b'f' => bytes.push(0x0c),
            b'n' => bytes.push(b'\n'),
            b'r' => bytes.push(b'\r'),
            b't' => bytes.push(b'\t'),
            b'v' => bytes.push(0x0b),
            b'\\' | b'"' => bytes.push(kind),
            b'x' => {
                bytes.push(u8::try_from(digits(2, 16)?).ok()?);
                text = &rest[2..];
            }
            b'u' | b'U' => {
                let count = if kind == b'u' { 4 } else { 8 };
                let character = char::from_u32(digits(count, 16)?)?;
                bytes.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
                text = &rest[count..];
            }
            b'0'..=b'7' => {
                let octal = std::str::from_utf8(text.get(..2)?).ok()?;
                let octal = format!("{}{octal}", char::from(kind));
                bytes.push(u8::from_str_radix(&octal, 8).ok()?);
                text = &text[2..];
            }
            _ => return None,
        }
    }
    Some(bytes)
}

fn number_error(function: &str, text: &str, why: &str) -> String {
    format!("strconv.{function}: parsing {}: {why}", quote(text.as_bytes()))
}

/// Sign, base and digits of a number; base 0 reads it off the prefix.
fn digits(text: &str, base: u32) -> Option<(bool, u32, String)> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if base != 0 {
        return Some((negative, base, rest.to_string()));
    }
    let lower = rest.to_ascii_lowercase();
    let (base, rest) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some(two) if two.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    Some((negative, base, rest.replace('_', "")))
}

fn parse_number(function: &str, text: &str, base: u32) -> Result<(bool, u64), String> {
    let syntax = || number_error(function, text, "invalid syntax");
    let (negative, base, digits) = digits(text, base).ok_or_else(syntax)?;
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(base)) {
        return Err(syntax());
    }
    match u64::from_str_radix(&digits, base) {
        Ok(number) => Ok((negative, number)),
        Err(_) => Err(number_error(function, text, "value out of range")),
    }
}

/// `strconv.ParseInt(text, base, 64)`.
///
/// # Errors
/// Go's sentence.
pub fn parse_int(text: &str, base: u32) -> Result<i64, String> {
    let (negative, number) = parse_number("ParseInt", text, base)?;
    let number = if negative { 0i64.checked_sub_unsigned(number) } else { number.try_into().ok() };
    number.ok_or_else(|| number_error("ParseInt", text, "value out of range"))
}

/// `strconv.ParseUint(text, base, 64)`.
///
/// # Errors
/// Go's sentence.
pub fn parse_uint(text: &str, base: u32) -> Result<u64, String> {
    if text.starts_with(['-', '+']) {
        return Err(number_error("ParseUint", text, "invalid syntax"));
    }
    Ok(parse_number("ParseUint", text, base)?.1)
}

/// `strconv.ParseBool`.
///
/// # Errors
/// Go's sentence.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(number_error("ParseBool", text, "invalid syntax")),
    }
}

/// A number of bytes for people: `20 kB`, `2.1 GB`; a kB is 1,000 bytes.
#[must_use]
pub fn bytes(number: u64) -> String {
    if number < 10 {
        return format!("{number} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit behind the point")]
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit < 6 {
        value /= 1000.0;
        unit += 1;
    }
    let value = (value * 10.0 + 0.5).floor() / 10.0;
    let unit = ["B", "kB", "MB", "GB", "TB", "PB", "EB"][unit];
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// A number as Go's `%g` writes it: with as few digits as name it exactly.
#[must_use]
pub fn float(number: f64) -> String {
    let text = format!("{number:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return infinite(number) };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

fn infinite(number: f64) -> String {
    if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "+Inf"
    } else {
        "-Inf"
    }
    .to_string()
}

/// `strconv.ParseFloat(text, 64)` of a decimal number.
///
/// # Errors
/// Go's sentence.
pub fn parse_float(text: &str) -> Result<f64, String> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let number = text.parse().ok().filter(|_| is_decimal);
    number.ok_or_else(|| number_error("ParseFloat", text, "invalid syntax"))
}

/// Bytes as `\x61\x62`, which `--hex` prints.
#[must_use]
pub fn hex_escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "\\x{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_as_go_does() {
        assert_eq!(quote(b"a\"\\\n\x00\x7f\xff"), r#""a\"\\\n\x00\x7f\xff""#);
        assert_eq!(
            quote("é\u{a0}\u{200b}\u{1f600}\u{301}".as_bytes()),
            "\"é\\u00a0\\u200b😀\u{301}\""
        );
        assert_eq!(quote("\u{e0001}".as_bytes()), r#""\U000e0001""#);
    }

    #[test]
    fn quoted_strings_are_read_back() {
        for text in [&b"a\"b\\\n"[..], b"\x00\xff", "é".as_bytes()] {
            let quoted = quote(text) + ") rest";
            assert_eq!(unquote_front(quoted.as_bytes()), Ok((text.to_vec(), &b") rest"[..])));
        }
        assert_eq!(unquote_front(br#""\101\u0041""#), Ok((b"AA".to_vec(), &b""[..])));
        assert!(unquote_front(br#""abc"#).is_err());
        assert!(unquote_front(br#""\q""#).is_err());
        assert!(unquote_front(br"abc").is_err());
    }

    #[test]
    fn numbers_and_their_errors_are_gos() {
        assert_eq!(parse_int("-0x10", 0), Ok(-16));
        assert_eq!(parse_int("-9223372036854775808", 10), Ok(i64::MIN));
        let range = "strconv.ParseInt: parsing \"9223372036854775808\": value out of range";
        assert_eq!(parse_int("9223372036854775808", 10), Err(range.to_string()));
        let syntax = "strconv.ParseInt: parsing \"zz\": invalid syntax";
        assert_eq!(parse_int("zz", 16), Err(syntax.to_string()));
        assert!(parse_int("", 10).is_err() && parse_uint("-1", 10).is_err());
    }

    #[test]
    fn floats_are_gos() {
        for (number, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.25, "0.25"),
            (0.0001, "0.0001"),
            (0.000_012_5, "1.25e-05"),
            (123_456.5, "123456.5"),
            (1_234_567.0, "1.234567e+06"),
            (1e100, "1e+100"),
            (-0.5, "-0.5"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(float(number), text);
        }
        assert_eq!(parse_float("-1.5e3"), Ok(-1500.0));
        let syntax = "strconv.ParseFloat: parsing \"x\": invalid syntax";
        assert_eq!(parse_float("x"), Err(syntax.to_string()));
    }

    #[test]
    fn sizes_are_for_people() {
        for (number, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (10, "10 B"),
            (20_480, "20 kB"),
            (1_500, "1.5 kB"),
            (2_147_483_648, "2.1 GB"),
            (999_999, "1000 kB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }
}

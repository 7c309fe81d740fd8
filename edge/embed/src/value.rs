//! The kinds and values of flags, and their parser, with the messages of Go's `flag` package.
//!
//! Source: Go's `flag` package and etcd pkg/flags @ v3.7.1.

use crate::gates;
use cli::duration::GoDuration;
use cli::go;
use net::Url;

/// The kind of a flag, after Go's types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`; needs no value on the command line.
    Bool,
    /// 64 bits without sign (Go's `uint` and `uint64`).
    Uint,
    /// 32 bits without sign, with etcd's own messages.
    Uint32,
    /// 64 bits with sign.
    Int,
    /// A Go duration.
    Duration,
    /// Text.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Some of these words, comma separated.
    Choices(&'static [&'static str]),
    /// URLs, comma separated, sorted, without doubles; empty for none.
    Urls,
    /// URLs or the one word `*`.
    UrlsOrStar,
    /// Words, comma separated, sorted, without doubles.
    UniqueWords,
    /// Words, comma separated, in their order.
    Words,
    /// `A=true,B=false`.
    Gates,
    /// Accepted and ignored.
    Ignored,
}

/// A flag's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// [`Kind::Bool`].
    Bool(bool),
    /// [`Kind::Uint`] and [`Kind::Uint32`].
    Uint(u64),
    /// [`Kind::Int`].
    Int(i64),
    /// [`Kind::Duration`].
    Duration(GoDuration),
    /// [`Kind::Text`], [`Kind::Choice`], [`Kind::Gates`], [`Kind::Ignored`].
    Text(String),
    /// [`Kind::Words`], [`Kind::UniqueWords`], [`Kind::Choices`], [`Kind::UrlsOrStar`].
    Words(Vec<String>),
    /// [`Kind::Urls`].
    Urls(Vec<Url>),
}

impl Kind {
    /// Parses a value of the command line or the environment.
    ///
    /// # Errors
    /// The part of the message of Go's `flag` package after the colon.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        Ok(match self {
            Self::Bool => Value::Bool(go::parse_bool(text).map_err(|_| "parse error")?),
            Self::Uint => Value::Uint(go::parse_uint(text, 0).map_err(without_details)?),
            Self::Uint32 => Value::Uint(u64::from(parse_uint32(text)?)),
            Self::Int => Value::Int(go::parse_int(text, 0).map_err(without_details)?),
            Self::Duration => {
                Value::Duration(GoDuration::parse(text).map_err(|_| "parse error".to_owned())?)
            }
            Self::Text | Self::Ignored => Value::Text(text.to_owned()),
            Self::Choice(words) if words.contains(&text) => Value::Text(text.to_owned()),
            Self::Choice(_) => return Err("invalid value".to_owned()),
            Self::Choices(words) => {
                let mut chosen: Vec<String> = Vec::new();
                for word in text.split(',') {
                    if !words.contains(&word) {
                        return Err(format!("invalid value {word:?}"));
                    }
                    chosen.push(word.to_owned());
                }
                chosen.sort();
                Value::Words(chosen)
            }
            // An empty text means no URLs.
            Self::Urls if text.is_empty() => Value::Urls(Vec::new()),
            Self::Urls => Value::Urls(Url::parse_list(text).map_err(|e| e.to_string())?),
            Self::UrlsOrStar if text == "*" || text.is_empty() => {
                Value::Words(vec!["*".to_owned()])
            }
            Self::UrlsOrStar => {
                let urls = Url::parse_list(text).map_err(|e| e.to_string())?;
                Value::Words(urls.iter().map(Url::to_string).collect())
            }
            Self::Words if text.is_empty() => Value::Words(Vec::new()),
            Self::Words => Value::Words(text.split(',').map(str::to_owned).collect()),
            Self::UniqueWords => {
                let mut words: Vec<String> =
                    text.split(',').filter(|w| !w.is_empty()).map(str::to_owned).collect();
                words.sort();
                words.dedup();
                Value::Words(words)
            }
            Self::Gates => {
                gates::Gates::parse(text)?;
                Value::Text(text.to_owned())
            }
        })
    }
}

/// The messages of Go's `flag` package for an error of `strconv`.
fn without_details(error: String) -> String {
    const RANGE: &str = "value out of range";
    if error.ends_with(RANGE) { RANGE } else { "parse error" }.to_owned()
}

fn parse_uint32(text: &str) -> Result<u32, String> {
    let error =
        || format!("strconv.ParseUint: parsing {}: value out of range", go::quote(text.as_bytes()));
    u32::try_from(go::parse_uint(text, 0)?).map_err(|_| error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_in_go() {
        assert_eq!(Kind::Uint.parse("0x10"), Ok(Value::Uint(16)));
        assert_eq!(Kind::Uint.parse("010"), Ok(Value::Uint(8)));
        assert_eq!(Kind::Uint.parse("0"), Ok(Value::Uint(0)));
        assert_eq!(Kind::Int.parse("-9223372036854775808"), Ok(Value::Int(i64::MIN)));
        assert_eq!(Kind::Uint.parse("-1"), Err("parse error".to_owned()));
        assert_eq!(Kind::Uint.parse(""), Err("parse error".to_owned()));
        assert_eq!(Kind::Int.parse("9223372036854775808"), Err("value out of range".to_owned()));
    }
}

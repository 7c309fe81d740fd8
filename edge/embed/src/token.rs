//! `--auth-token`: the kind of tokens, and the options of JSON Web Tokens. Their key files are read
//! later, by `api`.
//!
//! Source: etcd server/auth/{store,options}.go @ v3.7.1 (`NewTokenProvider`, `ParseWithDefaults`).

use crate::settings::Notice;
use api::{JwtKeyFiles, JwtOptions, SignMethod, TokenKind};
use cli::duration::GoDuration;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How long a JSON Web Token is valid if no `ttl` is given.
const TTL_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// The options that are known.
const OPTIONS: [&str; 4] = ["sign-method", "pub-key", "priv-key", "ttl"];

/// Reads the value of the flag. What is wrong in detail is added to `notices`.
///
/// # Errors
/// etcd's message.
pub(crate) fn parse(text: &str, notices: &mut Vec<Notice>) -> Result<TokenKind, String> {
    let invalid = || "auth: invalid auth options".to_owned();
    let mut parts = text.split(',');
    let kind = parts.next().unwrap_or_default();
    let mut options = BTreeMap::new();
    for part in parts {
        let pair = match part.split('=').collect::<Vec<_>>()[..] {
            [name, value] => options.insert(name, value).is_none(),
            _ => false,
        };
        if !pair {
            let field = [("option", text.to_owned())];
            notices.push(Notice::new("error", "invalid token option", field));
            return Err(invalid());
        }
    }
    match kind {
        "" => Ok(TokenKind::Off),
        "simple" => Ok(TokenKind::Simple),
        "jwt" => match jwt(&options, notices) {
            Ok(options) => Ok(TokenKind::Jwt(options)),
            Err(Problem::Options(why)) => {
                let field = [("error", why)];
                notices.push(Notice::new("error", "problem loading JWT options", field));
                Err(invalid())
            }
            Err(Problem::Method) => {
                Err("unsupported signing method: *jwt.signingMethodNone".to_owned())
            }
        },
        _ => {
            let fields = [("type", kind.to_owned()), ("error", invalid())];
            notices.push(Notice::new("warn", "unknown token type", fields));
            Err(invalid())
        }
    }
}

/// Why the options of JSON Web Tokens are refused.
enum Problem {
    /// With this reason, which etcd only logs.
    Options(String),
    /// The method is `none`.
    Method,
}

fn jwt(options: &BTreeMap<&str, &str>, notices: &mut Vec<Notice>) -> Result<JwtOptions, Problem> {
    let given = |name: &str| options.get(name).copied().filter(|value| !value.is_empty());
    let ttl = match given("ttl") {
        None => TTL_DEFAULT,
        Some(text) => {
            let ttl =
                GoDuration::parse(text).map_err(|why| Problem::Options(format!("time: {why}")))?;
            if ttl.0 <= 0 {
                let why = format!("retcd: ttl {text}: a token must be valid for some time");
                return Err(Problem::Options(why));
            }
            ttl.to_std()
        }
    };
    let method = match options.get("sign-method").copied().unwrap_or_default() {
        "none" => return Err(Problem::Method),
        name => SignMethod::named(name)
            .ok_or_else(|| Problem::Options("auth: invalid auth signature method".to_owned()))?,
    };
    let unknown: Vec<&str> = options.keys().copied().filter(|it| !OPTIONS.contains(it)).collect();
    if !unknown.is_empty() {
        let field = [("keys", unknown.join(","))];
        notices.push(Notice::new("warn", "unknown JWT options", field));
    }
    let file = |name: &str| given(name).map(PathBuf::from);
    let files = JwtKeyFiles { public: file("pub-key"), private: file("priv-key") };
    Ok(JwtOptions { method, files, ttl })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Result<TokenKind, String>, Vec<String>) {
        let mut notices = Vec::new();
        let kind = parse(text, &mut notices);
        let words = |notice: Notice| match notice.fields.into_iter().next_back() {
            Some((_, field)) => format!("{}: {field}", notice.message),
            None => notice.message,
        };
        (kind, notices.into_iter().map(words).collect())
    }

    #[test]
    fn the_options_of_json_web_tokens_are_read() {
        let text = "jwt,pub-key=a.pub,priv-key=a.key,sign-method=ES512,ttl=90s";
        let (Ok(TokenKind::Jwt(options)), notices) = parsed(text) else { panic!("no JWT") };
        assert!(notices.is_empty());
        assert_eq!((options.method.name, options.ttl), ("ES512", Duration::from_secs(90)));
        assert_eq!(options.files.public, Some("a.pub".into()));
        assert_eq!(options.files.private, Some("a.key".into()));
        let (kind, notices) = parsed("jwt,sign-method=HS256,priv-key=k,ttl=,color=red");
        let Ok(TokenKind::Jwt(options)) = kind else { panic!("no JWT") };
        assert_eq!((options.ttl, options.files.public), (TTL_DEFAULT, None));
        assert_eq!(notices, ["unknown JWT options: color"]);
    }

    #[test]
    fn wrong_options_are_refused_with_etcds_errors() {
        for (text, error, notice) in [
            (
                "jwt",
                "auth: invalid auth options",
                "problem loading JWT options: auth: invalid auth signature method",
            ),
            (
                "jwt,sign-method=RS1",
                "auth: invalid auth options",
                "problem loading JWT options: auth: invalid auth signature method",
            ),
            (
                "jwt,sign-method=RS256,ttl=1",
                "auth: invalid auth options",
                "problem loading JWT options: time: missing unit in duration \"1\"",
            ),
            (
                "jwt,sign-method=RS256,ttl=-1s",
                "auth: invalid auth options",
                "problem loading JWT options: retcd: ttl -1s: a token must be valid for some time",
            ),
            ("jwt,ttl", "auth: invalid auth options", "invalid token option: jwt,ttl"),
            (
                "jwt,ttl=1s,ttl=2s",
                "auth: invalid auth options",
                "invalid token option: jwt,ttl=1s,ttl=2s",
            ),
            ("simple,", "auth: invalid auth options", "invalid token option: simple,"),
            ("x", "auth: invalid auth options", "unknown token type: auth: invalid auth options"),
        ] {
            let (kind, notices) = parsed(text);
            assert_eq!(
                (kind.unwrap_err().as_str(), &notices[..]),
                (error, &[notice.to_owned()][..])
            );
        }
        let (kind, _) = parsed("jwt,sign-method=none");
        assert_eq!(kind.unwrap_err(), "unsupported signing method: *jwt.signingMethodNone");
        assert!(matches!(parsed("").0, Ok(TokenKind::Off)));
        assert!(matches!(parsed("simple").0, Ok(TokenKind::Simple)));
    }
}

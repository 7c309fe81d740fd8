//! `txn`: reads comparisons and two lists of requests from the standard input, one per line.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/txn_command.go, util.go `Argify`.

use crate::commands::TXN_REQUESTS;
use crate::failure::{Code, CommandResult};
use crate::session::Session;
use crate::{kv, output};
use cli::go;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request;
use std::io::BufRead;

pub(crate) async fn txn(mut session: Session) -> CommandResult {
    if !session.args.is_empty() {
        return Err(Code::BadArgs.with("txn command does not accept argument"));
    }
    // The time limit starts with the call, after the transaction has been read.
    let client = session.client().await?;
    let interactive = session.flags.bool("interactive");
    let ask = |what: &str| {
        if interactive {
            output::line(what);
        }
    };
    let mut input = std::io::stdin().lock();
    ask("compares:");
    let compare = read_lines(&mut input, parse_compare)?;
    ask("success requests (get, put, del):");
    let success = read_lines(&mut input, parse_request)?;
    ask("failure requests (get, put, del):");
    let failure = read_lines(&mut input, parse_request)?;
    drop(input);
    let answer = client.txn(pb::TxnRequest { compare, success, failure }).await?;
    output::out(&session.printer.txn(&answer)?);
    Ok(())
}

/// Reads lines up to an empty line.
fn read_lines<T>(
    input: &mut impl BufRead,
    parse: impl Fn(&[u8]) -> CommandResult<T>,
) -> CommandResult<Vec<T>> {
    let mut parsed = Vec::new();
    loop {
        let mut line = Vec::new();
        input.read_until(b'\n', &mut line).map_err(|error| Code::InvalidInput.with(error))?;
        if line.last() != Some(&b'\n') {
            return Err(Code::InvalidInput.with("EOF"));
        }
        match line.trim_ascii() {
            [] => return Ok(parsed),
            line => parsed.push(parse(line)?),
        }
    }
}

/// Splits a line into words like a shell; words in double quotes are Go strings.
pub(crate) fn split_words(mut line: &[u8]) -> CommandResult<cli::Words> {
    let mut words = Vec::new();
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0c);
    while let Some(first) = line.first() {
        match first {
            b'"' if closes(line) => {
                let (word, rest) =
                    go::unquote_front(line).map_err(|why| Code::InvalidInput.with(why))?;
                words.push(word);
                line = rest;
            }
            b'\'' => match line[1..].iter().position(|byte| *byte == b'\'') {
                Some(end) => {
                    words.push(line[1..=end].to_vec());
                    line = &line[end + 2..];
                }
                None => line = &line[1..],
            },
            b'"' => line = &line[1..],
            byte if is_space(byte) => line = &line[1..],
            _ => {
                let end = line.iter().position(is_space).unwrap_or(line.len());
                words.push(line[..end].to_vec());
                line = &line[end..];
            }
        }
    }
    Ok(words)
}

/// Whether the double quote at the start of the line is closed.
fn closes(line: &[u8]) -> bool {
    let mut at = 1;
    while let Some(byte) = line.get(at) {
        match byte {
            b'"' => return true,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    false
}

fn parse_request(line: &[u8]) -> CommandResult<pb::RequestOp> {
    let shown = String::from_utf8_lossy(line).into_owned();
    let words = split_words(line)?;
    if words.len() < 2 {
        let text = format!("invalid txn compare request: {shown}");
        return Err(Code::InvalidInput.with(text));
    }
    let cli::Invocation::Run(parsed) = cli::parse(&TXN_REQUESTS, &words) else {
        return Err(Code::InvalidInput.with(format!("invalid txn request: {shown}")));
    };
    let (flags, args) = (&parsed.flags, &parsed.args);
    let request = match parsed.name().as_str() {
        "get" => Request::RequestRange(kv::range_request(flags, args)?),
        "put" => Request::RequestPut(kv::put_request(flags, args)?),
        _ => Request::RequestDeleteRange(kv::delete_request(flags, args)?),
    };
    Ok(pb::RequestOp { request: Some(request) })
}

/// The parts of `target("key") op "value"` that could be read. `read` counts the last three.
struct Parts<'a> {
    target: &'a [u8],
    key: Vec<u8>,
    operator: Vec<u8>,
    value: Vec<u8>,
    read: usize,
}

fn split_compare<'a>(target: &'a [u8], rest: &[u8]) -> Parts<'a> {
    let mut parts = Parts { target, key: vec![], operator: vec![], value: vec![], read: 0 };
    let Ok((key, rest)) = go::unquote_front(rest.trim_ascii_start()) else { return parts };
    parts.key = key;
    parts.read = 1;
    let Some(rest) = rest.strip_prefix(b")") else { return parts };
    let rest = rest.trim_ascii_start();
    let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
    if end == 0 {
        return parts;
    }
    parts.operator = rest[..end].to_vec();
    parts.read = 2;
    if let Ok((value, _)) = go::unquote_front(rest[end..].trim_ascii_start()) {
        parts.value = value;
        parts.read = 3;
    }
    parts
}

fn parse_compare(line: &[u8]) -> CommandResult<pb::Compare> {
    let shown = String::from_utf8_lossy(line).into_owned();
    let wrong = |text: String| Err(Code::InvalidInput.with(text));
    let Some(paren) = line.iter().position(|byte| *byte == b'(') else {
        return wrong(format!("malformed comparison: {shown}"));
    };
    let parts = split_compare(&line[..paren], &line[paren + 1..]);
    let target = String::from_utf8_lossy(parts.target).into_owned();
    let operator = String::from_utf8_lossy(&parts.operator).into_owned();
    if parts.read != 3 {
        let (key, value) = (go::quote(&parts.key), go::quote(&parts.value));
        return wrong(format!(
            "malformed comparison: {shown}; got {target}({key}) {operator} {value}"
        ));
    }
    let number = || {
        let text = String::from_utf8_lossy(&parts.value).into_owned();
        let invalid = |_| Code::InvalidInput.with(format!("invalid txn compare request: {shown}"));
        go::parse_int(&text, 10).map_err(invalid)
    };
    let (target, union) = match target.as_str() {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number()?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(parts.value.clone().into())),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number()?)),
        unknown => {
            return wrong(format!("malformed comparison: {shown} (unknown target {unknown})"));
        }
    };
    let result = match operator.as_str() {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        unknown => {
            return wrong(format!("malformed comparison: {shown} (unknown operator {unknown})"));
        }
    };
    Ok(pb::Compare {
        result: result.into(),
        target: target.into(),
        key: parts.key.into(),
        range_end: bytes::Bytes::new(),
        target_union: Some(union),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_a_shell_does() {
        let words = split_words(br#"put key1 "two\twords" 'a "b"' x"y z"#).unwrap();
        let words: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
        assert_eq!(words, ["put", "key1", "two\twords", "a \"b\"", "x\"y", "z"]);
        assert!(split_words(br#"put "\q""#).is_err());
        assert_eq!(split_words(b"\"open it").unwrap().len(), 2);
    }

    #[test]
    fn comparisons_are_read() {
        let compare = parse_compare(br#"mod("key 1") > "0""#).unwrap();
        assert_eq!(compare.key, "key 1");
        assert_eq!(compare.result(), CompareResult::Greater);
        assert_eq!(compare.target_union, Some(TargetUnion::ModRevision(0)));
        let compare = parse_compare(br#"val("k") != "v""#).unwrap();
        assert_eq!(compare.target_union, Some(TargetUnion::Value("v".into())));
    }

    #[test]
    fn errors_in_comparisons_have_gos_messages() {
        for (line, text) in [
            ("mod", "malformed comparison: mod"),
            ("mod(\"k\") > 0", "malformed comparison: mod(\"k\") > 0; got mod(\"k\") > \"\""),
            ("mod(k) > \"0\"", "malformed comparison: mod(k) > \"0\"; got mod(\"\")  \"\""),
            ("x(\"k\") = \"0\"", "malformed comparison: x(\"k\") = \"0\" (unknown target x)"),
            ("ver(\"k\") = \"a\"", "invalid txn compare request: ver(\"k\") = \"a\""),
        ] {
            let failure = parse_compare(line.as_bytes()).unwrap_err();
            assert_eq!(failure, Code::InvalidInput.with(text));
        }
    }

    #[test]
    fn requests_are_command_lines() {
        let request = parse_request(b"pu key --lease 1f 'a b'").unwrap().request.unwrap();
        let Request::RequestPut(put) = request else { panic!("not a put") };
        assert_eq!((put.key.as_ref(), put.value.as_ref()), (&b"key"[..], &b"a b"[..]));
        assert_eq!(put.lease, 0x1f);
        assert!(parse_request(b"put").is_err() && parse_request(b"delete k").is_err());
    }
}

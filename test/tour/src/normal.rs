//! Normalizes output: masks what changes from run to run.

use crate::process::Printed;
use crate::table;
use crate::wire;

/// The values of a run that are masked.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The server's address, as `127.0.0.1:PORT`.
    pub endpoint: String,
    /// The working directory of the programs.
    pub directory: String,
    /// The ids of the leases granted so far, in order.
    pub leases: Vec<u64>,
}

/// Strings of JSON and of `-w fields` that change with the version; a number of that name is the
/// version of a key.
const VERSIONS: &[&str] = &["version", "storageVersion", "Version", "StorageVersion"];

/// Numbers and strings of JSON and of `-w fields` that change from run to run.
const CHANGING: &[&str] = &[
    "dbSize",
    "dbSizeInUse",
    "raftIndex",
    "raftAppliedIndex",
    "took",
    "DBSize",
    "DBSizeInUse",
    "RaftIndex",
    "RaftAppliedIndex",
    "Took",
];

/// The same for the status of a snapshot.
const CHANGING_IN_SNAPSHOTS: &[&str] =
    &["hash", "totalKey", "totalSize", "Hash", "Keys", "Size", "Total Keys", "Total Size"];

/// Fields of a log line with a time, a source location or a size.
const CHANGING_IN_LOGS: &[&str] =
    &["ts", "caller", "stacktrace", "stack", "size", "took", "etcd-version"];

/// Fields of a log line with the size of a database begin with this.
const SIZES_IN_LOGS: &str = "current-db-size";

/// The output of a program as recorded in a transcript: the lines of standard output, those of
/// standard error after `! `, and the exit code after `? ` if it is not 0.
#[must_use]
pub fn transcript(printed: &Printed, words: &[String], known: &Known) -> String {
    let mut text = String::new();
    for line in lines(&printed.out, words, known) {
        text.push_str(&line);
        text.push('\n');
    }
    for line in lines(&printed.err, words, known) {
        text.push_str("! ");
        text.push_str(&line);
        text.push('\n');
    }
    match printed.code {
        Some(0) => {}
        // It depends on the speed of the machine.
        Some(1) if is_check(words, "perf") => {}
        Some(code) => text.push_str(&format!("? {code}\n")),
        None => text.push_str("? killed\n"),
    }
    text
}

fn lines(bytes: &[u8], words: &[String], known: &Known) -> Vec<String> {
    let protobuf = words.iter().any(|word| word.ends_with("protobuf"));
    let dumped = protobuf.then(|| wire::dump(bytes)).flatten();
    let text = without_noise(&dumped.unwrap_or_else(|| escaped(bytes)));
    let text: String = match is_check(words, "perf") || is_check(words, "datascale") {
        true => text.split_inclusive('\n').map(mask_check).collect(),
        false => text.split_inclusive('\n').map(mask_key_of_check).collect(),
    };
    let text = masked(&text, words, known);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if !text.is_empty() && !text.ends_with('\n') {
        lines.push("\\ no newline at the end".to_owned());
    }
    lines
}

fn is_check(words: &[String], name: &str) -> bool {
    words.iter().any(|word| word == "check") && words.iter().any(|word| word == name)
}

/// Masks what depends on the speed of the machine in a line of `check perf` or `check datascale`,
/// without the progress bar that etcdctl 3.5 writes to the standard output.
fn mask_check(line: &str) -> String {
    /// A carriage return, as it is written here.
    const RETURN: &str = "\\x0d";
    let line = match line.rsplit_once(RETURN) {
        None => line,
        Some((_, last)) => match last.find(['P', 'F', 'S']) {
            Some(at) => &last[at..],
            None => return String::new(),
        },
    };
    for (begins, shown) in [
        ("PASS: Throughput is ", "PASS or FAIL: Throughput"),
        ("FAIL: Throughput too low: ", "PASS or FAIL: Throughput"),
        ("PASS: Slowest request took ", "PASS or FAIL: Slowest"),
        ("Slowest request took too long: ", "PASS or FAIL: Slowest"),
        ("PASS: Stddev is ", "PASS or FAIL: Stddev"),
        ("Stddev too high: ", "PASS or FAIL: Stddev"),
        ("PASS\n", "PASS or FAIL"),
        ("FAIL\n", "PASS or FAIL"),
    ] {
        if line.starts_with(begins) {
            return format!("{shown}\n");
        }
    }
    mask_between(line, "memory used : ", " MB")
}

/// Masks a key of `check perf`, which is a random number; etcdctl 3.4 leaves its keys when it is
/// interrupted.
fn mask_key_of_check(line: &str) -> String {
    match line.split_once("/etcdctl-check-perf/") {
        Some((before, key)) if key.contains("\\x00") => {
            format!("{before}/etcdctl-check-perf/*\n")
        }
        _ => line.to_owned(),
    }
}

/// Bytes that are not UTF-8 as `\xNN`.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\n' | '\t' => text.push(char),
                char if char.is_control() => text.push_str(&format!("\\x{:02x}", u32::from(char))),
                char => text.push(char),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Log lines in one form, without those of the library below Go's server and without the one
/// about the variable that old clients need; and a panic of Go's without its stack.
fn without_noise(text: &str) -> String {
    let mut kept = String::new();
    for line in text.split_inclusive('\n') {
        if line.starts_with("goroutine ") {
            break;
        }
        match json_log(line).or_else(|| console_log(line)) {
            Some(log) if log.contains("bbolt") || log.contains("ETCDCTL_API=3") => {}
            Some(log) => kept.push_str(&log),
            None => kept.push_str(line),
        }
    }
    kept
}

fn masked(text: &str, words: &[String], known: &Known) -> String {
    let has = |word: &str| words.iter().any(|given| given == word);
    let of_snapshot = has("snapshot") && has("status");
    let mut text = text.replace(&known.endpoint, "127.0.0.1:*****");
    if !known.directory.is_empty() {
        text = text.replace(&known.directory, "<dir>");
    }
    for (number, id) in (1..).zip(&known.leases) {
        text = text.replace(&format!("{id:016x}"), &format!("<lease{number}>"));
        text = text.replace(&format!("{id:x}"), &format!("<lease{number}>"));
        text = text.replace(&id.to_string(), &format!("<lease{number}>"));
    }
    if has("lock") || has("elect") {
        text = mask_contenders(&text);
    }
    for name in CHANGING {
        text = mask_named(&text, name, false);
    }
    for name in VERSIONS {
        text = mask_named(&text, name, true);
    }
    if of_snapshot {
        for name in CHANGING_IN_SNAPSHOTS {
            text = mask_named(&text, name, false);
        }
    }
    if has("timetolive") {
        text = mask_named(&mask_named(&text, "ttl", false), "TTL", false);
        text = mask_between(&text, "remaining(", ")");
        text = sort_between(&text, "attached keys([", "])");
    }
    text = mask_between(&text, " took ", "\n");
    text = mask_between(&text, "etcd-endpoints://", "/");
    text = mask_between(&text, "endpoint://client-", "/");
    text = mask_between(&text, "LocalAddr: '", "'");
    text = table::mask(&text, of_snapshot);
    // Go's protobuf prints one or two spaces between fields, and some versions one at the end.
    text = text
        .replace("  alarm:NOSPACE", " alarm:NOSPACE")
        .replace("alarm:NOSPACE ", "alarm:NOSPACE");
    let by_commas = of_snapshot || has("endpoint") && has("status");
    let mut masked = String::new();
    for line in text.split_inclusive('\n') {
        if by_commas {
            masked.push_str(&mask_parts(line, of_snapshot));
        } else {
            masked.push_str(line);
        }
    }
    masked
}

/// Masks the value after `"name":` or `"name" : `.
fn mask_named(text: &str, name: &str, only_strings: bool) -> String {
    let mut masked = String::new();
    let mut rest = text;
    let head = format!("\"{name}\"");
    while let Some(at) = rest.find(&head) {
        let behind = at + head.len();
        let colon = rest[behind..].find(|char: char| !matches!(char, ' ' | ':'));
        let value = behind + colon.unwrap_or(0);
        let is_value =
            rest[behind..value].contains(':') && (!only_strings || rest[value..].starts_with('"'));
        masked.push_str(&rest[..value]);
        rest = &rest[value..];
        if is_value {
            let len = value_len(rest);
            if len > 0 {
                masked.push('*');
            }
            rest = &rest[len..];
        }
    }
    masked.push_str(rest);
    masked
}

/// The length of a number or a string at the start of `text`; 0 for an empty string, which says
/// that there is no value.
fn value_len(text: &str) -> usize {
    if text.starts_with("\"\"") {
        return 0;
    }
    match text.strip_prefix('"') {
        Some(inner) => inner.find('"').map_or(0, |end| end + 2),
        None => text
            .find(|char: char| !char.is_ascii_alphanumeric() && !"+-.µ".contains(char))
            .unwrap_or(text.len()),
    }
}

/// Masks the ids of leases that contenders for a lock have made: they end their keys.
fn mask_contenders(text: &str) -> String {
    let masked = |line: &str| match line.rsplit_once('/') {
        Some((name, id)) if id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            format!("{name}/<lease>")
        }
        _ => line.to_owned(),
    };
    let lines: Vec<String> = text.split('\n').map(masked).collect();
    lines.join("\n")
}

fn mask_between(text: &str, before: &str, behind: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(before) {
        let value = at + before.len();
        masked.push_str(&rest[..value]);
        masked.push('*');
        rest = &rest[value..];
        rest = &rest[rest.find(behind).unwrap_or(rest.len())..];
    }
    masked.push_str(rest);
    masked
}

/// Sorts the keys of a lease, because Go prints them in any order.
fn sort_between(text: &str, before: &str, behind: &str) -> String {
    let Some((head, rest)) = text.split_once(before) else { return text.to_owned() };
    let Some((words, tail)) = rest.split_once(behind) else { return text.to_owned() };
    let mut words: Vec<&str> = words.split(' ').collect();
    words.sort_unstable();
    format!("{head}{before}{}{behind}{tail}", words.join(" "))
}

/// Masks what changes in a line of comma-separated values.
fn mask_parts(line: &str, of_snapshot: bool) -> String {
    let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
    if !line.contains(", ") || line.contains(['{', '│', '|']) {
        return format!("{line}{end}");
    }
    let parts: Vec<&str> = line.split(", ").collect();
    // The term is the same in each run; the raft indexes after it are not.
    let mut numbers = 0;
    let masked: Vec<String> = parts
        .iter()
        .enumerate()
        .map(|(at, part)| {
            let number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            numbers += usize::from(number);
            let size = part.ends_with('B') && part.starts_with(|char: char| char.is_ascii_digit());
            let version = part.matches('.').count() == 2
                && part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            let changes = if of_snapshot {
                // The second one is the revision.
                at != 1
            } else {
                (number && numbers > 1) || size || version || part.ends_with('%')
            };
            if changes { "*".to_owned() } else { (*part).to_owned() }
        })
        .collect();
    format!("{}{end}", masked.join(", "))
}

/// A log line in zap's JSON format: level, message, and the fields that do not change.
fn json_log(line: &str) -> Option<String> {
    if !line.starts_with("{\"level\":") {
        return None;
    }
    let serde_json::Value::Object(fields) = serde_json::from_str(line).ok()? else { return None };
    let text = |name: &str| fields.get(name).and_then(|value| value.as_str()).unwrap_or("");
    Some(log(text("level"), text("msg"), &fields))
}

/// A log line in zap's console format: time, level, an optional logger, location, message, fields.
fn console_log(line: &str) -> Option<String> {
    let mut parts: Vec<&str> = line.trim_end().split('\t').collect();
    if parts.len() < 4 || !parts[0].ends_with('Z') || !["info", "warn", "error"].contains(&parts[1])
    {
        return None;
    }
    let fields = match serde_json::from_str(parts[parts.len() - 1]) {
        Ok(serde_json::Value::Object(fields)) => {
            parts.pop();
            fields
        }
        _ => serde_json::Map::new(),
    };
    let message = parts[parts.len() - 1];
    let logger = if parts[2] == "bbolt" { "bbolt " } else { "" };
    Some(log(parts[1], &format!("{logger}{message}"), &fields))
}

fn log(level: &str, message: &str, fields: &serde_json::Map<String, serde_json::Value>) -> String {
    let mut shown = format!("log {level}: {message}");
    for (name, value) in fields {
        let changes = CHANGING_IN_LOGS.contains(&name.as_str()) || name.starts_with(SIZES_IN_LOGS);
        if !["level", "msg"].contains(&name.as_str()) && !changes {
            shown.push_str(&format!(" {name}={value}"));
        }
    }
    shown.push('\n');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known {
            endpoint: "127.0.0.1:40001".into(),
            directory: "/dir/work".into(),
            leases: vec![0x694d_0123_4567_89ab],
        }
    }

    fn shown(out: &str, line: &str) -> String {
        let printed = Printed { out: out.into(), err: Vec::new(), code: Some(0) };
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        transcript(&printed, &words, &known())
    }

    #[test]
    fn ids_ports_and_directories_do_not_show() {
        assert_eq!(
            shown("lease 694d0123456789ab\n\"Lease\" : 7587722198189050283\n", "lease grant"),
            "lease <lease1>\n\"Lease\" : <lease1>\n"
        );
        assert_eq!(shown("127.0.0.1:40001 /dir/work/x\n", "x"), "127.0.0.1:***** <dir>/x\n");
    }

    #[test]
    fn values_that_change_are_masked_where_they_are_named() {
        assert_eq!(
            shown("{\"version\":\"3.7.1\",\"raftIndex\":5,\"revision\":2}\n", "x"),
            "{\"version\":*,\"raftIndex\":*,\"revision\":2}\n"
        );
        assert_eq!(
            shown("\"DBSize\" : 20480\n\"Hash\" : 7\n", "x"),
            "\"DBSize\" : *\n\"Hash\" : 7\n"
        );
        for as_it_is in ["\"Version\" : \"\"\n", "{\"version\":3}\n"] {
            assert_eq!(shown(as_it_is, "x"), as_it_is);
        }
        assert_eq!(
            shown("healthy: x took = 1.5ms\ny\n", "endpoint health"),
            "healthy: x took *\ny\n"
        );
    }

    #[test]
    fn a_line_by_commas_keeps_its_facts() {
        let status =
            "a:1, 8e9e, 3.7.1, 3.7.0, 20 kB, 16 kB, 20%, 2.1 GB, true, false, 2, 5, 5, , \n";
        assert_eq!(
            shown(status, "endpoint status"),
            "a:1, 8e9e, *, *, *, *, *, *, true, false, 2, *, *, , \n"
        );
        assert_eq!(shown("fe1a, 5, 9, 20 kB\n", "snapshot status x"), "*, 5, *, *\n");
    }

    #[test]
    fn a_check_shows_no_bar_and_nothing_of_the_speed() {
        let fast = "PASS: Throughput is 150 writes/s\nPASS: Slowest request took 0.1s\nPASS: \
                    Stddev is 0.02s\nPASS\n";
        let slow = "\r 1 / 60 \r 2 / 60 00m58sFAIL: Throughput too low: 7 writes/s\nSlowest request \
                    took too long: 0.9s\nStddev too high: 0.2s\nFAIL\n";
        let line = "check perf";
        assert_eq!(shown(fast, line), shown(slow, line));
        assert_eq!(shown(fast, line).lines().count(), 4);
        assert_eq!(
            shown("\r 9 / 9 100.00% 4s\nPASS: memory used : 45.58 MB.\n", "check datascale"),
            "PASS: memory used : * MB.\n"
        );
        let key = "/etcdctl-check-perf/\u{1}\0\0\n";
        assert_eq!(shown(key, "get --keys-only"), "/etcdctl-check-perf/*\n");
        let own = "/etcdctl-check-perf/own\n";
        assert_eq!(shown(own, "get --keys-only"), own);
    }

    #[test]
    fn errors_and_exit_codes_show() {
        let printed = Printed { out: b"no end".into(), err: b"bad\n".into(), code: Some(1) };
        let text = transcript(&printed, &[], &known());
        assert_eq!(text, "no end\n\\ no newline at the end\n! bad\n? 1\n");
    }

    #[test]
    fn a_log_line_is_its_message() {
        let line = "{\"level\":\"info\",\"ts\":\"2026\",\"caller\":\"a.go:1\",\"msg\":\"m\",\"path\":\"p\"}\n";
        assert_eq!(shown(line, "snapshot save p"), "log info: m path=\"p\"\n");
    }
}

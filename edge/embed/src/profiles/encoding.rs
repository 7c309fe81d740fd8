//! A profile in the format of pprof: the messages, and their content from sampled stacks.
//!
//! Source: proto/profile.proto of github.com/google/pprof.

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds in a second.
const SECOND: i64 = 1_000_000_000;

/// A stack and how often it was seen.
#[derive(Debug)]
pub(super) struct Stack {
    pub(super) thread: String,
    /// The innermost first. A frame has several functions if some are inlined, the innermost first.
    pub(super) frames: Vec<Vec<Called>>,
    pub(super) samples: i64,
}

/// A function with the line that was executed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Called {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) line: u32,
}

impl Called {
    pub(super) fn of(symbol: &pprof::Symbol) -> Called {
        let file = symbol.filename().into_owned();
        Called { name: qualified(&symbol.name(), &file), file, line: symbol.lineno() }
    }

    /// Whether it is a part of the profiler, which is on top of every stack.
    pub(super) fn is_profiler(&self) -> bool {
        ["pprof::", "<pprof::", "backtrace::", "perf_signal_handler"]
            .iter()
            .any(|prefix| self.name.starts_with(prefix))
    }
}

/// The name of a function with its crate and module. Debug information of lines alone has only the last
/// part of the name; the others follow from the file.
fn qualified(name: &str, file: &str) -> String {
    let short = name.trim_start_matches("::");
    let is_short = short.len() < name.len() || !short.contains("::");
    let is_rust = file.ends_with(".rs");
    let Some((package, module)) = file.rsplit_once("/src/").filter(|_| is_short && is_rust) else {
        return name.to_owned();
    };
    let package = package.rsplit('/').next().unwrap_or_default();
    let is_version = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    let package = match package.rsplit_once('-') {
        Some((package, version)) if is_version(version) => package,
        Some(_) | None => package,
    };
    let modules = module.trim_end_matches(".rs").split('/').map(str::to_owned);
    let modules = modules.filter(|module| !["lib", "main", "mod"].contains(&module.as_str()));
    let parts = [package.replace('-', "_")].into_iter().chain(modules);
    parts.chain([short.to_owned()]).collect::<Vec<_>>().join("::")
}

#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<StackSample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
}

/// Numbers of texts are indexes of the string table.
#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StackSample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    text: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "5")]
    filename: i64,
    #[prost(bool, tag = "7")]
    has_functions: bool,
    #[prost(bool, tag = "8")]
    has_filenames: bool,
    #[prost(bool, tag = "9")]
    has_line_numbers: bool,
    #[prost(bool, tag = "10")]
    has_inline_frames: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<LineOfFunction>,
}

#[derive(Clone, PartialEq, Message)]
struct LineOfFunction {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    // Without `system_name`, pprof shows the name as it is: it removes what is in angle brackets if both
    // are equal.
    #[prost(int64, tag = "4")]
    filename: i64,
}

/// Numbers in the order of their first use.
struct Numbers<T>(BTreeMap<T, u64>);

impl<T: Ord + Clone> Numbers<T> {
    /// The number of a value, and whether it is new.
    fn of(&mut self, value: &T) -> (u64, bool) {
        if let Some(number) = self.0.get(value) {
            return (*number, false);
        }
        let number = self.0.len() as u64;
        self.0.insert(value.clone(), number);
        (number, true)
    }
}

/// The content of a profile while it grows.
struct Content {
    profile: Profile,
    texts: Numbers<String>,
    functions: Numbers<(String, String)>,
    locations: Numbers<Vec<Called>>,
}

impl Content {
    fn new() -> Content {
        let (texts, functions) = (Numbers(BTreeMap::new()), Numbers(BTreeMap::new()));
        let locations = Numbers(BTreeMap::new());
        let mut content = Content { profile: Profile::default(), texts, functions, locations };
        // The first text is empty, as the format demands.
        content.text("");
        content
    }

    fn text(&mut self, text: &str) -> i64 {
        let text = text.to_owned();
        let (number, is_new) = self.texts.of(&text);
        if is_new {
            self.profile.string_table.push(text);
        }
        i64::try_from(number).unwrap_or(i64::MAX)
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> ValueType {
        ValueType { kind: self.text(kind), unit: self.text(unit) }
    }

    /// The id of a function; ids begin with 1.
    fn function(&mut self, called: &Called) -> u64 {
        let (number, is_new) = self.functions.of(&(called.name.clone(), called.file.clone()));
        let id = number + 1;
        if is_new {
            let name = self.text(&called.name);
            let filename = self.text(&called.file);
            self.profile.function.push(Function { id, name, filename });
        }
        id
    }

    /// The id of a place in the program; ids begin with 1.
    fn location(&mut self, frame: &Vec<Called>) -> u64 {
        let (number, is_new) = self.locations.of(frame);
        let id = number + 1;
        if is_new {
            let line = frame
                .iter()
                .map(|called| LineOfFunction {
                    function_id: self.function(called),
                    line: i64::from(called.line),
                })
                .collect();
            self.profile.location.push(Location { id, mapping_id: 1, line });
        }
        id
    }
}

/// The profile of stacks that were sampled from `begun` on for this time, this often in a second of
/// processor time.
pub(super) fn encode(
    stacks: &[Stack],
    begun: SystemTime,
    time: Duration,
    frequency: u32,
) -> Vec<u8> {
    let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    let period = SECOND / i64::from(frequency);
    let mut content = Content::new();
    let samples = content.value_type("samples", "count");
    let cpu = content.value_type("cpu", "nanoseconds");
    content.profile.sample_type = vec![samples, cpu.clone()];
    content.profile.period_type = Some(cpu);
    content.profile.period = period;
    content.profile.time_nanos = nanos(begun.duration_since(UNIX_EPOCH).unwrap_or_default());
    content.profile.duration_nanos = nanos(time);
    let program = std::env::current_exe().unwrap_or_default();
    let filename = content.text(&program.to_string_lossy());
    content.profile.mapping = vec![Mapping {
        id: 1,
        filename,
        has_functions: true,
        has_filenames: true,
        has_line_numbers: true,
        has_inline_frames: true,
    }];
    for stack in stacks {
        let location_id = stack.frames.iter().map(|frame| content.location(frame)).collect();
        let label = vec![Label { key: content.text("thread"), text: content.text(&stack.thread) }];
        let value = vec![stack.samples, stack.samples.saturating_mul(period)];
        content.profile.sample.push(StackSample { location_id, value, label });
    }
    content.profile.encode_to_vec()
}

/// The bytes with gzip.
pub(super) fn compressed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(name: &str, line: u32) -> Called {
        Called { name: name.to_owned(), file: "a.rs".to_owned(), line }
    }

    #[test]
    fn names_are_completed_from_their_files() {
        for (name, file, full) in [
            ("run", "/a/edge/server/src/threads/log.rs", "server::threads::log::run"),
            ("boot", "core/executor/src/lib.rs", "executor::boot"),
            ("::poll", "/r/tokio-util-0.7.20/src/sync/mod.rs", "tokio_util::sync::poll"),
            ("std::io::read", "/rustc/1/library/std/src/io/mod.rs", "std::io::read"),
            ("clone3", "Unknown", "clone3"),
            ("mi_free", "/r/registry/src/index/libmimalloc-sys-0.1.49/c_src/free.c", "mi_free"),
        ] {
            assert_eq!(qualified(name, file), full);
        }
    }

    #[test]
    fn stacks_share_places_functions_and_texts() {
        let stack = |frames: Vec<Vec<Called>>, samples| Stack {
            thread: "worker".to_owned(),
            frames,
            samples,
        };
        let main = vec![called("main", 9)];
        let stacks = [
            stack(vec![vec![called("inlined", 1), called("outer", 2)], main.clone()], 3),
            stack(vec![vec![called("outer", 5)], main], 1),
        ];
        let begun = UNIX_EPOCH + Duration::from_secs(7);
        let bytes = encode(&stacks, begun, Duration::from_secs(2), 100);
        let profile = Profile::decode(&*bytes).unwrap();
        let text = |number: i64| &*profile.string_table[usize::try_from(number).unwrap()];
        assert_eq!(text(0), "");
        let types = profile.sample_type.iter().map(|it| (text(it.kind), text(it.unit)));
        assert!(types.eq([("samples", "count"), ("cpu", "nanoseconds")]));
        assert_eq!((profile.time_nanos, profile.duration_nanos), (7 * SECOND, 2 * SECOND));
        assert_eq!(profile.period, 10_000_000);
        let values = profile.sample.iter().map(|sample| &sample.value[..]);
        assert!(values.eq([&[3, 30_000_000][..], &[1, 10_000_000]]));
        let functions: Vec<_> = profile.function.iter().map(|it| (it.id, text(it.name))).collect();
        assert_eq!(functions, [(1, "inlined"), (2, "outer"), (3, "main")]);
        let lines = |id: u64| {
            let location = profile.location.iter().find(|location| location.id == id).unwrap();
            location.line.iter().map(|line| (line.function_id, line.line)).collect::<Vec<_>>()
        };
        let [first, second] = &profile.sample[..] else { panic!("two samples") };
        assert_eq!(lines(first.location_id[0]), [(1, 1), (2, 2)]);
        assert_eq!(lines(second.location_id[0]), [(2, 5)]);
        assert_eq!(first.location_id[1], second.location_id[1]);
        assert_eq!(text(first.label[0].text), "worker");
        assert_eq!(profile.string_table.iter().filter(|text| *text == "outer").count(), 1);
    }
}

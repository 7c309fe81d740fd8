//! The history of a register as text, in the form of Jepsen's log lines, which the tests of porcupine
//! read: `INFO  jepsen.util - CLIENT :invoke :write 3`, and `:ok`, `:fail` or `:info` at its end.
//!
//! Source: porcupine, porcupine_test.go `parseJepsenLog`.

use super::registers::RegisterCall;
use crate::linearizable::Timed;
use bytes::Bytes;
use std::collections::BTreeMap;

/// The lines of one register, in order of time. Each call has a process of its own; porcupine
/// permits that, since only the order in time counts. `None` if the register was deleted, which the
/// format cannot express.
#[must_use]
pub fn lines(calls: &[Timed<RegisterCall>]) -> Option<Vec<String>> {
    let mut numbers: BTreeMap<Bytes, usize> = BTreeMap::new();
    let mut number = |value: &Bytes| {
        let next = numbers.len() + 1;
        *numbers.entry(value.clone()).or_insert(next)
    };
    let mut lines: Vec<(u64, bool, usize, String)> = Vec::new();
    for (process, Timed { begun, ended, call }) in calls.iter().enumerate() {
        let (what, end) = match call {
            RegisterCall::Read(value) => {
                let read =
                    value.as_ref().map_or_else(|| "nil".to_owned(), |it| number(it).to_string());
                (":read nil".to_owned(), format!(":ok :read {read}"))
            }
            RegisterCall::Write(None) => return None,
            RegisterCall::Write(Some(value)) => {
                let write = format!(":write {}", number(value));
                (write.clone(), format!(":ok {write}"))
            }
            RegisterCall::Swap { from, to, done } => {
                let swap = format!(":cas [{} {}]", number(from), number(to));
                let how = if *done == Some(false) { ":fail" } else { ":ok" };
                (swap.clone(), format!("{how} {swap}"))
            }
        };
        // At the same time, ends come after begins, since these calls are concurrent.
        lines.push((*begun, false, process, format!(":invoke {what}")));
        match ended {
            Some(end_at) => lines.push((*end_at, true, process, end)),
            None => lines.push((u64::MAX, true, process, format!(":info {what} :timeout"))),
        }
    }
    lines.sort_by_key(|line| (line.0, line.1, line.2));
    let with_head = |(_, _, process, text): (u64, bool, usize, String)| {
        format!("INFO  jepsen.util - {process} {text}")
    };
    Some(lines.into_iter().map(with_head).collect())
}

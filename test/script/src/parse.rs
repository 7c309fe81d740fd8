//! Splits a script into its cases. Source of the format: cockroachdb/datadriven line_scanner.go,
//! test_data_reader.go.

use crate::case::{Arg, Case};
use std::path::Path;

const SEPARATOR: &str = "----";

/// A part of a script; all parts together are the script.
pub(crate) enum Part {
    /// Comments and blank lines between cases.
    Between(String),
    /// A case; `source` is its text up to the separator, inclusive.
    Case { case: Case, source: String, expected: String },
}

/// A syntax error: the line and a message.
pub(crate) type Bad = (usize, String);

pub(crate) fn parse(path: &Path, text: &str) -> Result<Vec<Part>, Bad> {
    let mut lines = Lines { lines: text.split_inclusive('\n').collect(), at: 0 };
    let mut parts = Vec::new();
    while let Some(first) = lines.next() {
        let trimmed = first.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            parts.push(Part::Between(first.into()));
            continue;
        }
        let line = lines.at;
        let (command_line, mut source) = whole_command(&mut lines, first);
        let (command, args) = words(&command_line).map_err(|why| (line, why))?;
        let mut input = String::new();
        loop {
            let Some(next) = lines.next() else {
                return Err((line, format!("the command has no {SEPARATOR} line")));
            };
            source.push_str(next);
            if next.trim_end() == SEPARATOR {
                break;
            }
            input.push_str(next);
        }
        if input.ends_with('\n') {
            input.pop();
        }
        let expected = expected(&mut lines).map_err(|why| (line, why))?;
        let case = Case { path: path.into(), line, command, args, input };
        parts.push(Part::Case { case, source, expected });
    }
    Ok(parts)
}

/// An output as written in a script: framed if it contains a blank line.
pub(crate) fn framed(output: &str) -> String {
    let needs_frame = output.lines().any(|line| line.trim().is_empty() || line == SEPARATOR);
    if needs_frame {
        format!("{SEPARATOR}\n{output}{SEPARATOR}\n{SEPARATOR}\n")
    } else {
        output.into()
    }
}

struct Lines<'a> {
    lines: Vec<&'a str>,
    /// How many lines were taken: the number of the last one, from 1.
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let line = self.lines.get(self.at).copied()?;
        self.at += 1;
        Some(line)
    }

    fn peek(&self, ahead: usize) -> Option<&'a str> {
        self.lines.get(self.at + ahead).map(|line| line.trim_end())
    }
}

/// The command with its continuation lines, and its source text.
fn whole_command(lines: &mut Lines<'_>, first: &str) -> (String, String) {
    let mut source = String::from(first);
    let mut command = String::from(first.trim());
    while let Some(cut) = command.strip_suffix('\\') {
        command = format!("{} ", cut.trim_end());
        let Some(next) = lines.next() else { break };
        source.push_str(next);
        command.push_str(next.trim());
    }
    (command, source)
}

fn expected(lines: &mut Lines<'_>) -> Result<String, String> {
    let mut output = String::new();
    if lines.peek(0) == Some(SEPARATOR) {
        lines.next();
        loop {
            if lines.peek(0) == Some(SEPARATOR) && lines.peek(1) == Some(SEPARATOR) {
                lines.next();
                lines.next();
                return Ok(output);
            }
            let line = lines.next().ok_or("the output's frame has no end")?;
            output.push_str(line);
        }
    }
    while let Some(line) = lines.peek(0) {
        if line.trim().is_empty() {
            break;
        }
        output.push_str(lines.next().unwrap_or_default());
    }
    if !output.is_empty() && !output.ends_with('\n') {
        output.push('\n');
    }
    Ok(output)
}

fn words(line: &str) -> Result<(String, Vec<Arg>), String> {
    let (command, mut rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let mut args = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok((command.into(), args));
        }
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let key = String::from(&rest[..end]);
        if key.is_empty() {
            return Err(format!("an argument without a name at `{rest}`"));
        }
        rest = &rest[end..];
        let Some(value) = rest.strip_prefix('=') else {
            args.push(Arg { key, values: Vec::new() });
            continue;
        };
        let values;
        (values, rest) = match value.strip_prefix('(') {
            Some(list) => {
                let (inside, behind) = closed(list)?;
                (inside.split(',').map(|value| value.trim().into()).collect(), behind)
            }
            None => {
                let end = value.find(char::is_whitespace).unwrap_or(value.len());
                (vec![value[..end].into()], &value[end..])
            }
        };
        let values = if values == [""] { Vec::new() } else { values };
        args.push(Arg { key, values });
    }
}

/// The text before the parenthesis that closes the list, and the text behind it.
fn closed(list: &str) -> Result<(&str, &str), String> {
    let mut depth = 1;
    for (at, c) in list.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok((&list[..at], &list[at + 1..]));
        }
    }
    Err(format!("no `)` closes `({list}`"))
}

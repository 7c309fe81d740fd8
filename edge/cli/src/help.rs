//! The layout of help, usage and flag lists.
//!
//! Source: the shape of spf13/cobra @ 1.10.2's templates and pflag's `FlagUsages`.

use crate::command::{Command, Flag, Kind};
use std::fmt::Write as _;

/// The words that call the last command of a path.
pub(crate) fn path_name(path: &[&'static Command]) -> String {
    path.iter().map(|command| command.name()).collect::<Vec<_>>().join(" ")
}

/// What `--help` prints for the last command of a path.
#[must_use]
pub fn help(path: &[&'static Command]) -> String {
    let Some(command) = path.last() else { return String::new() };
    let about = if command.long.is_empty() { command.short } else { command.long };
    let mut text = String::new();
    if !about.is_empty() {
        _ = writeln!(text, "{}\n", about.trim_end());
    }
    text.push_str(&usage(path));
    if path[0].hidden {
        let root = path[0].name();
        _ = writeln!(
            text,
            "Use \"{root} options\" for a list of global command-line options (applies to all \
             commands)."
        );
    }
    text
}

/// What follows an error of the command line.
#[must_use]
pub fn usage(path: &[&'static Command]) -> String {
    let Some((command, above)) = path.split_last() else { return String::new() };
    let name = path_name(path);
    let mut text = "Usage:".to_string();
    if command.is_runnable() {
        let line = match above {
            [] => command.usage.to_string(),
            above => format!("{} {}", path_name(above), command.usage),
        };
        let flags = if line.contains("[flags]") { "" } else { " [flags]" };
        _ = write!(text, "\n  {line}{flags}");
    } else {
        _ = write!(text, "\n  {name} [command]");
    }
    text.push('\n');
    commands(&mut text, command);
    let own = command.flags.iter().chain(if command.hidden { &[] } else { command.persistent });
    let mut own: Vec<&Flag> = own.filter(|flag| !flag.is_unlisted).collect();
    let help = format!("help for {}", command.name());
    // The text of the help flag is made here, so the flag cannot be one of the constants.
    let help_line = flag_line("  -h, --help", &help);
    if !command.hidden {
        own.sort_by_key(|flag| flag.name);
        _ = write!(text, "\nFlags:\n{}", flag_list(&own, Some(("help", help_line))));
    }
    let mut inherited: Vec<&Flag> =
        above.iter().filter(|c| !c.hidden).flat_map(|c| c.persistent).collect();
    inherited.sort_by_key(|flag| flag.name);
    if !inherited.is_empty() {
        _ = write!(text, "\nGlobal Flags:\n{}", flag_list(&inherited, None));
    }
    if !command.commands.is_empty() {
        _ = write!(text, "\nUse \"{name} [command] --help\" for more information about a command.");
        text.push('\n');
    }
    text
}

fn commands(text: &mut String, command: &Command) {
    if command.commands.is_empty() {
        return;
    }
    let width = command.listed().map(|c| c.name().len()).max().unwrap_or(0).max(11);
    let line = |c: &Command| format!("  {:width$} {}\n", c.name(), c.short);
    let mut under = |heading: &str, group: &str| {
        let below: Vec<_> = command.listed().filter(|c| c.group == group).collect();
        if !below.is_empty() {
            _ = writeln!(text, "\n{heading}");
            below.into_iter().for_each(|below| text.push_str(&line(below)));
        }
    };
    under("Available Commands:", "");
    command.groups.iter().for_each(|group| under(group, group));
}

/// The flags as a list, sorted as given.
#[must_use]
pub fn flag_usages(flags: &[Flag]) -> String {
    let mut flags: Vec<&Flag> = flags.iter().collect();
    flags.sort_by_key(|flag| flag.name);
    flag_list(&flags, None)
}

/// The lines of a list of commands and flags that a program does not have. Each line is a command, or a
/// flag with its default and its letter, such as `etcdctl get --limit=0`.
#[must_use]
pub fn missing<'a>(root: &'static Command, list: &'a str) -> Vec<&'a str> {
    let ours = listing(root);
    list.lines().filter(|line| !ours.iter().any(|ours| ours == line)).collect()
}

fn listing(root: &'static Command) -> Vec<String> {
    let name = root.name();
    let mut lines = vec![name.to_string()];
    for flag in root.flags.iter().chain(root.persistent) {
        let letter = flag.short.map(|letter| format!(" -{letter}")).unwrap_or_default();
        lines.push(format!("{name} --{}={}{letter}", flag.name, flag.default));
    }
    let below = root.commands.iter().flat_map(listing);
    lines.extend(below.map(|line| format!("{name} {line}")));
    lines
}

type Line = (String, String);

fn flag_line(left: &str, help: &str) -> Line {
    (left.to_string(), help.to_string())
}

fn flag_list(flags: &[&Flag], extra: Option<(&str, Line)>) -> String {
    let mut lines: Vec<(&str, Line)> =
        flags.iter().map(|flag| (flag.name, describe(flag))).chain(extra).collect();
    lines.sort_by_key(|(name, _)| *name);
    let width = lines.iter().map(|(_, (left, _))| left.len()).max().unwrap_or(0);
    lines.iter().map(|(_, (left, help))| format!("{left:width$}   {help}\n")).collect()
}

fn describe(flag: &Flag) -> Line {
    let mut left = match flag.short {
        Some(letter) => format!("  -{letter}, --{}", flag.name),
        None => format!("      --{}", flag.name),
    };
    let (kind, default) = match flag.kind {
        Kind::Bool => ("", if flag.default == "true" { " (default true)" } else { "" }.to_string()),
        Kind::Text if flag.default.is_empty() => (" string", String::new()),
        Kind::Text => (" string", format!(" (default \"{}\")", flag.default)),
        Kind::Int if flag.default == "0" => (" int", String::new()),
        Kind::Int => (" int", format!(" (default {})", flag.default)),
        Kind::Uint if flag.default == "0" => (" uint", String::new()),
        Kind::Uint => (" uint", format!(" (default {})", flag.default)),
        Kind::Float if flag.default == "0" => (" float", String::new()),
        Kind::Float => (" float", format!(" (default {})", flag.default)),
        Kind::Duration => (" duration", format!(" (default {})", flag.default)),
        Kind::List => (" strings", format!(" (default [{}])", flag.default)),
    };
    left.push_str(kind);
    (left, format!("{}{default}", flag.help))
}

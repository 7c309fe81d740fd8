//! Parsing of a command line into a command, its arguments and its flags.
//!
//! Source: spf13/cobra @ 1.10.2 command.go `Find`, spf13/pflag @ 1.0.10 flag.go `parseArgs`.

use crate::command::{Arguments, Command, Flag, Kind};
use crate::flags::Flags;
use crate::go;
use crate::help::{help, path_name, usage};

/// The words of a command line: bytes, since a key may be any.
pub type Words = Vec<Vec<u8>>;

/// A parsed command.
#[derive(Debug)]
pub struct Parsed {
    /// The commands from the root to the chosen one.
    pub path: Vec<&'static Command>,
    /// The arguments.
    pub args: Words,
    /// The number of arguments before `--`, if there is one.
    pub dash: Option<usize>,
    /// The values of all flags that hold here.
    pub flags: Flags,
}

impl Parsed {
    /// The words of the command without the program's name, as `endpoint status`.
    #[must_use]
    pub fn name(&self) -> String {
        self.path[1..].iter().map(|command| command.name()).collect::<Vec<_>>().join(" ")
    }

    /// The persistent flags of the commands above this one, which the environment may set.
    #[must_use]
    pub fn inherited(&self) -> Vec<&'static str> {
        let above = &self.path[..self.path.len() - 1];
        above.iter().flat_map(|command| command.persistent).map(|flag| flag.name).collect()
    }
}

/// The result of parsing a command line.
#[derive(Debug)]
pub enum Invocation {
    /// Run this command.
    Run(Parsed),
    /// Print this text and exit.
    Help(String),
    /// The command line is invalid; print this text to standard error.
    Wrong(String),
}

/// Flags that hold for the last command of a path.
pub(crate) fn known(path: &[&'static Command]) -> Vec<&'static Flag> {
    let own = path.last().map_or(&[][..], |command| command.flags);
    path.iter().flat_map(|command| command.persistent).chain(own).collect()
}

/// Reads a command line (without the program's own name).
#[must_use]
pub fn parse(root: &'static Command, words: &[Vec<u8>]) -> Invocation {
    let (path, rest) = find(root, words);
    if path.len() == 1
        && let Some(word) = bare(&rest, &path).first()
    {
        return Invocation::Wrong(unknown_command(root, word));
    }
    if path.last().is_some_and(|command| command.name() == "help") {
        return help_topic(root, &rest);
    }
    let runnable = path.last().is_some_and(|command| command.is_runnable());
    let mut flags = Flags::new(known(&path));
    match parse_words(&mut flags, &rest) {
        Ok(Some(_)) if !runnable => Invocation::Help(help(&path)),
        Ok(Some(args)) => match check(&path, &args.words, &flags) {
            Ok(()) => Invocation::Run(Parsed { path, args: args.words, dash: args.dash, flags }),
            Err(why) => wrong(&path, &why),
        },
        Ok(None) => Invocation::Help(help(&path)),
        Err(why) => wrong(&path, &why),
    }
}

fn wrong(path: &[&'static Command], why: &str) -> Invocation {
    Invocation::Wrong(format!("Error: {why}\n{}\n", usage(path)))
}

/// Checks the number and the words of the arguments, and that no required flag is missing.
fn check(path: &[&'static Command], args: &[Vec<u8>], flags: &Flags) -> Result<(), String> {
    let expected = path.last().map_or(Arguments::Any, |command| command.arguments);
    match (expected, args) {
        (Arguments::Any, _) | (Arguments::One, [_]) => {}
        (Arguments::OneOf(words), [only]) => {
            if !words.iter().any(|word| word.as_bytes() == only) {
                let name = path_name(path);
                return Err(format!("invalid argument {} for \"{name}\"", go::quote(only)));
            }
        }
        (Arguments::One | Arguments::OneOf(_), _) => {
            return Err(format!("accepts 1 arg(s), received {}", args.len()));
        }
    }
    let mut missing: Vec<_> = known(path)
        .into_iter()
        .filter(|flag| flag.required && !flags.changed(flag.name))
        .map(|flag| format!("\"{}\"", flag.name))
        .collect();
    missing.sort();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("required flag(s) {} not set", missing.join(", ")))
}

/// Reads arguments and flags of one command only, with no command words: a line of an
/// interactive mode.
///
/// # Errors
/// pflag's sentence.
pub fn parse_flags(command: &'static Command, words: &[Vec<u8>]) -> Result<Parsed, String> {
    let mut flags = Flags::new(command.flags);
    let Some(Args { words: args, dash }) = parse_words(&mut flags, words)? else {
        return Err("pflag: help requested".to_string());
    };
    Ok(Parsed { path: vec![command], args, dash, flags })
}

/// The arguments without the flags.
pub(crate) struct Args {
    pub(crate) words: Words,
    /// How many of them stand before `--`.
    pub(crate) dash: Option<usize>,
}

fn help_topic(root: &'static Command, rest: &[Vec<u8>]) -> Invocation {
    let (path, _) = find(root, rest);
    if path.len() == 1 && !rest.is_empty() {
        let topic: Vec<_> = rest.iter().map(|word| String::from_utf8_lossy(word)).collect();
        let topic = topic.join(" ");
        return Invocation::Help(format!("Unknown help topic [`{topic}`]\n{}", usage(&path)));
    }
    Invocation::Help(help(&path))
}

/// Follows the command words down the tree; the rest is arguments and flags.
pub(crate) fn find(root: &'static Command, words: &[Vec<u8>]) -> (Vec<&'static Command>, Words) {
    let mut path = vec![root];
    let mut rest = words.to_vec();
    loop {
        let here = path[path.len() - 1];
        let Some(word) = bare(&rest, &path).first().cloned() else { return (path, rest) };
        let Some(next) = here.below(&word) else { return (path, rest) };
        if let Some(at) = position(&rest, &word, &path) {
            rest.remove(at);
        }
        path.push(next);
    }
}

/// Whether a word is a flag whose value is the next word. An unknown flag counts as one.
fn takes_next(word: &[u8], path: &[&'static Command]) -> bool {
    if word.contains(&b'=') {
        return false;
    }
    let is_switch = |found: Option<&&'static Flag>| found.is_some_and(|f| f.kind == Kind::Bool);
    let flags = known(path);
    if let Some(name) = word.strip_prefix(b"--") {
        !is_switch(flags.iter().find(|flag| flag.name.as_bytes() == name)) && name != b"help"
    } else if word.len() == 2 && word[0] == b'-' {
        let letter = char::from(word[1]);
        !is_switch(flags.iter().find(|flag| flag.short == Some(letter))) && letter != 'h'
    } else {
        false
    }
}

/// The words that are neither flags nor values of flags, as [`takes_next`] decides.
pub(crate) fn bare(words: &[Vec<u8>], path: &[&'static Command]) -> Words {
    let mut bare = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let word = &words[at];
        at += 1;
        if word == b"--" {
            break;
        }
        if takes_next(word, path) {
            if words.len() - at <= 1 {
                break;
            }
            at += 1;
        } else if !word.is_empty() && word[0] != b'-' {
            bare.push(word.clone());
        }
    }
    bare
}

pub(crate) fn position(
    words: &[Vec<u8>],
    wanted: &[u8],
    path: &[&'static Command],
) -> Option<usize> {
    let mut at = 0;
    while at < words.len() {
        let word = &words[at];
        if word == b"--" {
            return None;
        }
        if takes_next(word, path) {
            at += 1;
        } else if word == wanted {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Sets the flags that are among the words and returns the other words; `None` if one of the flags
/// asks for help.
pub(crate) fn parse_words(flags: &mut Flags, words: &[Vec<u8>]) -> Result<Option<Args>, String> {
    let (mut args, mut dash) = (Vec::new(), None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == b"--" {
            dash = Some(args.len());
            args.extend(words.by_ref().cloned());
        } else if let Some(long) = word.strip_prefix(b"--") {
            if long_flag(flags, long, &mut words)? {
                return Ok(None);
            }
        } else if word.len() > 1 && word[0] == b'-' {
            if short_flags(flags, &word[1..], &mut words)? {
                return Ok(None);
            }
        } else {
            args.push(word.clone());
        }
    }
    Ok(Some(Args { words: args, dash }))
}

type Rest<'a> = std::slice::Iter<'a, Vec<u8>>;

/// True when help is wanted.
fn long_flag(flags: &mut Flags, word: &[u8], rest: &mut Rest<'_>) -> Result<bool, String> {
    let shown = String::from_utf8_lossy(word).into_owned();
    if matches!(word.first(), None | Some(b'-' | b'=')) {
        return Err(format!("bad flag syntax: --{shown}"));
    }
    let (name, given) = match word.iter().position(|byte| *byte == b'=') {
        Some(at) => (&word[..at], Some(&word[at + 1..])),
        None => (word, None),
    };
    let name = String::from_utf8_lossy(name).into_owned();
    let Some(flag) = flags.known(&name) else {
        return if name == "help" { Ok(true) } else { Err(format!("unknown flag: --{name}")) };
    };
    let value = match given {
        Some(given) => given,
        None if flag.kind == Kind::Bool => b"true",
        None => rest.next().ok_or_else(|| format!("flag needs an argument: --{name}"))?,
    };
    flags.set(flag.name, value)?;
    Ok(false)
}

/// True when help is wanted.
fn short_flags(flags: &mut Flags, word: &[u8], rest: &mut Rest<'_>) -> Result<bool, String> {
    let shown = String::from_utf8_lossy(word).into_owned();
    let mut left = word;
    while let Some((&letter, behind)) = left.split_first() {
        let letter = char::from(letter);
        let Some(flag) = flags.known_short(letter) else {
            if letter == 'h' {
                return Ok(true);
            }
            return Err(format!("unknown shorthand flag: '{letter}' in -{shown}"));
        };
        if let [b'=', value @ ..] = behind
            && !value.is_empty()
        {
            flags.set(flag.name, value)?;
            return Ok(false);
        }
        if flag.kind == Kind::Bool {
            flags.set(flag.name, b"true")?;
            left = behind;
            continue;
        }
        let value = if behind.is_empty() {
            let missing = || format!("flag needs an argument: '{letter}' in -{shown}");
            rest.next().ok_or_else(missing)?.as_slice()
        } else {
            behind
        };
        flags.set(flag.name, value)?;
        return Ok(false);
    }
    Ok(false)
}

fn unknown_command(root: &'static Command, word: &[u8]) -> String {
    let name = root.name();
    let typed = String::from_utf8_lossy(word).to_lowercase();
    let near: Vec<_> = root
        .listed()
        .map(Command::name)
        .filter(|name| distance(&typed, name) <= 2 || name.starts_with(&typed))
        .collect();
    let mut text = format!("Error: unknown command {} for \"{name}\"\n", go::quote(word));
    if !near.is_empty() {
        text.push_str("\nDid you mean this?\n");
        near.iter().for_each(|name| text.push_str(&format!("\t{name}\n")));
        text.push('\n');
    }
    text.push_str(&format!("Run '{name} --help' for usage.\n"));
    text
}

/// How many letters must be changed, added or taken away to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

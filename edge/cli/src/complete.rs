//! Completion of a command line: the hidden command `__complete`, which the shells' scripts call
//! with the words up to the cursor. The scripts of cobra's programs work with our programs, and
//! our scripts with theirs. Not here: the scripts.
//!
//! Source: spf13/cobra @ 1.10.2 completions.go.

use crate::command::{Arguments, Command, Flag, Kind, Offer};
use crate::flags::Flags;
use crate::parse::{Args, Words, bare, find, known, parse_words, position};
use std::fmt::Write as _;

/// The answer to a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// For the standard output: a candidate on each line, with a description behind a tab, and
    /// then the line with the [`Directive`].
    pub out: String,
    /// For the standard error: explanations for a person who calls the command by hand.
    pub notes: String,
}

/// What the shell is to do with the candidates. The numbers are cobra's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directive {
    /// Offer files if there is no candidate.
    Default = 0,
    /// Offer no files.
    NoFiles = 4,
    /// Offer directories.
    Directories = 16,
}

impl Directive {
    fn name(self) -> &'static str {
        match self {
            Directive::Default => "ShellCompDirectiveDefault",
            Directive::NoFiles => "ShellCompDirectiveNoFileComp",
            Directive::Directories => "ShellCompDirectiveFilterDirs",
        }
    }
}

/// A word that may stand at the cursor.
struct Candidate {
    word: String,
    about: String,
}

impl Candidate {
    fn new(word: impl Into<String>, about: &str) -> Candidate {
        Candidate { word: word.into(), about: about.to_string() }
    }
}

/// The candidates and what to do with them, or why there are none.
type Found = Result<(Vec<Candidate>, Directive), String>;

/// The answer, if the command line (without the program's own name) is a call of `__complete` or of
/// `__completeNoDesc`, which leaves the descriptions out.
#[must_use]
pub fn completion(root: &'static Command, words: &[Vec<u8>]) -> Option<Completion> {
    let name = first_word(words, root)?;
    let is_described = match name.as_slice() {
        b"__complete" => true,
        b"__completeNoDesc" => false,
        _ => return None,
    };
    // Flags before the command belong to the command line that is completed.
    let mut words = words.to_vec();
    words.remove(position(&words, &name, &[root])?);
    // Without any word, the cursor stands at the first one.
    let current = words.pop().unwrap_or_default();
    let before = words;
    let mut notes = String::new();
    let (candidates, directive) = candidates(root, &before, &current).unwrap_or_else(|why| {
        _ = writeln!(notes, "[Debug] [Error] {why}");
        (Vec::new(), Directive::Default)
    });
    let mut out = String::new();
    for Candidate { word, about } in candidates {
        match is_described && !about.is_empty() {
            true => _ = writeln!(out, "{word}\t{about}"),
            false => _ = writeln!(out, "{word}"),
        }
    }
    _ = writeln!(out, ":{}", directive as u8);
    _ = writeln!(notes, "Completion ended with directive: {}", directive.name());
    Some(Completion { out, notes })
}

/// The first word that is neither a flag nor the value of one.
fn first_word(words: &[Vec<u8>], root: &'static Command) -> Option<Vec<u8>> {
    bare(words, &[root]).into_iter().next()
}

fn candidates(root: &'static Command, before: &[Vec<u8>], current: &[u8]) -> Found {
    let (path, rest) = find(root, before);
    let command = path[path.len() - 1];
    let at = Cursor::of(&path, rest, current);
    let mut flags = Flags::new(known(&path));
    let args = parse_words(&mut flags, &at.before)
        .map_err(|why| format!("Error while parsing flags from args {}: {why}", shown(before)))?;
    let Some(Args { words: args, dash }) = args else {
        return Ok((Vec::new(), Directive::NoFiles));
    };
    if path.len() == 1 && !args.is_empty() {
        return Err(format!("unable to find a command for arguments: {}", shown(before)));
    }
    if command.name() == "help" {
        return Ok(topics(root, &args, &at.current));
    }
    if dash.is_some() {
        return Ok((Vec::new(), Directive::Default));
    }
    if let Some(flag) = at.value_of {
        return Ok(values(flag, &at.current));
    }
    if at.current.starts_with('-') && !at.current.contains('=') {
        let required = required(&path, &flags, &at.current);
        let found = if required.is_empty() { names(&path, &flags, &at.current) } else { required };
        return Ok((found, Directive::NoFiles));
    }
    let is_plain = command.flags.iter().all(|flag| !flags.changed(flag.name));
    let (mut found, directive) = match args.is_empty() && is_plain {
        true => below(command, &at.current),
        false => (Vec::new(), Directive::Default),
    };
    found.extend(required(&path, &flags, &at.current));
    let Arguments::OneOf(words) = command.arguments else { return Ok((found, directive)) };
    if args.is_empty() {
        found.extend(matching(words, &at.current));
    }
    Ok((found, Directive::NoFiles))
}

/// The words as Go prints a list.
fn shown(words: &[Vec<u8>]) -> String {
    let words: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
    format!("[{}]", words.join(" "))
}

/// Where the cursor stands.
struct Cursor {
    /// The flag whose value is typed.
    value_of: Option<&'static Flag>,
    /// The words of the command before the cursor, without the flag whose value is typed.
    before: Words,
    /// The text from the beginning of the word, or of the value, to the cursor.
    current: String,
}

impl Cursor {
    fn of(path: &[&'static Command], mut before: Words, current: &[u8]) -> Cursor {
        let current = String::from_utf8_lossy(current).into_owned();
        if let Some((name, value)) = current.split_once('=').filter(|_| current.starts_with('-')) {
            let value_of = flag_of(path, name);
            return Cursor { value_of, before, current: value.to_string() };
        }
        if current.starts_with('-') {
            return Cursor { value_of: None, before, current };
        }
        let previous = before.last().map(|word| String::from_utf8_lossy(word).into_owned());
        let is_behind_dash = before.iter().any(|word| word == b"--");
        let value_of = previous
            .filter(|word| !is_behind_dash && !word.contains('='))
            .and_then(|word| flag_of(path, &word))
            .filter(|flag| flag.kind != Kind::Bool);
        if value_of.is_some() {
            // It has no value yet, which would be an error.
            before.pop();
        }
        Cursor { value_of, before, current }
    }
}

/// The flag that a word ends with: `--name`, `-n`, or several letters of which the last one counts.
fn flag_of(path: &[&'static Command], word: &str) -> Option<&'static Flag> {
    let flags = known(path);
    if let Some(name) = word.strip_prefix("--") {
        return flags.into_iter().find(|flag| flag.name == name);
    }
    let letter = word.strip_prefix('-')?.chars().last()?;
    flags.into_iter().find(|flag| flag.short == Some(letter))
}

fn matching<'a>(words: &'a [&'a str], typed: &'a str) -> impl Iterator<Item = Candidate> + 'a {
    words.iter().filter(move |word| word.starts_with(typed)).map(|word| Candidate::new(*word, ""))
}

fn values(flag: &Flag, typed: &str) -> (Vec<Candidate>, Directive) {
    match flag.offer {
        Offer::Files => (Vec::new(), Directive::Default),
        Offer::Directories => (Vec::new(), Directive::Directories),
        Offer::Words(words) => (matching(words, typed).collect(), Directive::NoFiles),
    }
}

/// The commands below one whose names begin as typed.
fn below(command: &'static Command, typed: &str) -> (Vec<Candidate>, Directive) {
    if command.commands.is_empty() {
        return (Vec::new(), Directive::Default);
    }
    let matching = command.listed().filter(|below| below.name().starts_with(typed));
    let found = matching.map(|below| Candidate::new(below.name(), below.short)).collect();
    (found, Directive::NoFiles)
}

/// What may follow `help` and these words.
fn topics(root: &'static Command, words: &[Vec<u8>], typed: &str) -> (Vec<Candidate>, Directive) {
    let (path, rest) = find(root, words);
    let found = match path.last() {
        Some(topic) if rest.is_empty() => below(topic, typed).0,
        _ => Vec::new(),
    };
    (found, Directive::NoFiles)
}

/// The required flags that are missing and whose names begin as typed, in full.
fn required(path: &[&'static Command], flags: &Flags, typed: &str) -> Vec<Candidate> {
    let mut required = known(path);
    required.retain(|flag| flag.required && !flags.changed(flag.name));
    required.sort_by_key(|flag| flag.name);
    required.into_iter().flat_map(|flag| spellings(flag, typed)).collect()
}

/// The flags that can still be given and whose names begin as typed: those of the commands above,
/// then those of the command itself.
fn names(path: &[&'static Command], flags: &Flags, typed: &str) -> Vec<Candidate> {
    let Some((command, above)) = path.split_last() else { return Vec::new() };
    let can_be_given =
        |flag: &&Flag| !flag.is_unlisted && (flag.kind == Kind::List || !flags.changed(flag.name));
    let mut inherited: Vec<&Flag> =
        above.iter().flat_map(|command| command.persistent).filter(can_be_given).collect();
    inherited.sort_by_key(|flag| flag.name);
    let own = command.flags.iter().chain(command.persistent).filter(can_be_given);
    let about = format!("help for {}", command.name());
    let help = ["--help", "-h"].into_iter().filter(|word| word.starts_with(typed));
    let mut own: Vec<(&str, Vec<Candidate>)> =
        own.map(|flag| (flag.name, spellings(flag, typed).collect())).collect();
    own.push(("help", help.map(|word| Candidate::new(word, &about)).collect()));
    own.sort_by_key(|(name, _)| *name);
    let inherited = inherited.into_iter().flat_map(|flag| spellings(flag, typed));
    inherited.chain(own.into_iter().flat_map(|(_, words)| words)).collect()
}

/// A flag's name and letter, if they begin as typed.
fn spellings<'a>(flag: &'a Flag, typed: &'a str) -> impl Iterator<Item = Candidate> + 'a {
    let letter = flag.short.map(|letter| format!("-{letter}"));
    let words = [Some(format!("--{}", flag.name)), letter].into_iter().flatten();
    words
        .filter(move |word| word.starts_with(typed))
        .map(move |word| Candidate::new(word, flag.help))
}

#[cfg(test)]
mod tests {
    use super::*;

    static ROOT: Command = Command {
        usage: "tool",
        persistent: &[
            Flag::new("endpoints", Kind::List, "127.0.0.1:2379", "where"),
            Flag::new("write-out", Kind::Text, "simple", "which format")
                .short('w')
                .offering(Offer::Words(&["json", "simple", "table"])),
        ],
        commands: &[
            Command {
                usage: "completion [bash|zsh]",
                short: "Prints a script",
                arguments: Arguments::OneOf(&["bash", "zsh"]),
                ..Command::NONE
            },
            Command {
                usage: "defrag",
                short: "Defragments",
                flags: &[
                    Flag::new("data-dir", Kind::Text, "", "which directory")
                        .required()
                        .offering(Offer::Directories),
                    Flag::switch("force", "in any case"),
                ],
                ..Command::NONE
            },
            Command {
                usage: "get [options] <key>",
                short: "Gets",
                flags: &[
                    Flag::new("limit", Kind::Int, "0", "how many"),
                    Flag::switch("prefix", "all that begin so").short('p'),
                ],
                ..Command::NONE
            },
            Command { usage: "help", short: "Helps", ..Command::NONE },
            Command {
                usage: "lease <subcommand>",
                short: "Leases",
                commands: &[
                    Command { usage: "list", short: "Lists", ..Command::NONE },
                    Command { usage: "revoke <id>", short: "Revokes", ..Command::NONE },
                ],
                ..Command::NONE
            },
        ],
        ..Command::NONE
    };

    /// The candidates without descriptions, joined, and the directive. `''` is an empty word.
    fn asked(line: &str) -> String {
        let words = format!("__completeNoDesc {line}");
        let words: Vec<_> =
            words.split(' ').map(|word| word.replace("''", "").into_bytes()).collect();
        completion(&ROOT, &words).unwrap().out.trim_end().replace('\n', " ")
    }

    #[test]
    fn commands_are_offered_by_their_beginning() {
        assert_eq!(asked("''"), "completion defrag get help lease :4");
        assert_eq!(asked("ge"), "get :4");
        assert_eq!(asked("lease ''"), "list revoke :4");
        assert_eq!(asked("-w json lea"), "lease :4");
        assert_eq!(asked("lease x ''"), ":0");
        assert_eq!(asked("help lease r"), "revoke :4");
        assert_eq!(asked("help get ''"), ":4");
    }

    #[test]
    fn flags_are_offered_once_or_as_often_as_they_may_be_given() {
        assert_eq!(asked("get -"), "--endpoints --write-out -w --help -h --limit --prefix -p :4");
        assert_eq!(asked("get --limit 3 --li"), ":4");
        assert_eq!(asked("get --endpoints a --end"), "--endpoints :4");
        assert_eq!(asked("get -- --"), ":0");
        assert_eq!(asked("get --help ''"), ":4");
        assert_eq!(asked("--"), "--endpoints --help --write-out :4");
    }

    #[test]
    fn values_of_flags_are_words_directories_or_files() {
        for line in ["get -w ''", "get --write-out ''", "get --write-out=", "get -w=", "-pw ''"] {
            assert_eq!(asked(line), "json simple table :4", "{line}");
        }
        assert_eq!(asked("get --write-out=t"), "table :4");
        assert_eq!(asked("get --limit ''"), ":0");
        assert_eq!(asked("get --prefix ''"), ":0");
        assert_eq!(asked("defrag --data-dir ''"), ":16");
        assert_eq!(asked("defrag --data-dir=x"), ":16");
    }

    #[test]
    fn required_flags_come_first() {
        assert_eq!(asked("defrag ''"), "--data-dir :0");
        // A switch has no value behind it.
        assert_eq!(asked("defrag --force ''"), "--data-dir :0");
        assert_eq!(asked("defrag -"), "--data-dir :4");
        assert_eq!(asked("defrag --f"), "--force :4");
        assert_eq!(
            asked("defrag --data-dir x -"),
            "--endpoints --write-out -w --force --help -h :4"
        );
    }

    #[test]
    fn arguments_of_a_fixed_set_are_offered_once() {
        assert_eq!(asked("completion ''"), "bash zsh :4");
        assert_eq!(asked("completion z"), "zsh :4");
        assert_eq!(asked("completion bash ''"), ":4");
    }

    #[test]
    fn descriptions_follow_a_tab_and_mistakes_are_told() {
        let ask = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
            completion(&ROOT, &words)
        };
        let found = ask(&["__complete", "get", "--l"]).unwrap();
        assert_eq!(found.out, "--limit\thow many\n:4\n");
        assert_eq!(found.notes, "Completion ended with directive: ShellCompDirectiveNoFileComp\n");
        assert_eq!(
            ask(&["__complete", "nonsense", ""]).unwrap().notes,
            "[Debug] [Error] unable to find a command for arguments: [nonsense]\nCompletion ended \
             with directive: ShellCompDirectiveDefault\n"
        );
        assert_eq!(
            ask(&["__complete", "--nonsense", "ge"]).unwrap().notes.lines().next(),
            Some(
                "[Debug] [Error] Error while parsing flags from args [--nonsense]: unknown flag: \
                 --nonsense"
            )
        );
        assert_eq!(ask(&["__complete"]).unwrap().out.lines().count(), 6);
        assert_eq!(ask(&["get", "__complete"]), None);
        let behind = ask(&["-w", "json", "--endpoints=a", "__complete", "get", "--l"]).unwrap();
        assert_eq!(behind.out, found.out);
        assert_eq!(ask(&["-w", "__complete", "get"]), None);
    }
}

//! The scripts: one command a line.
//!
//! ```text
//! # a comment
//! server --quota-backend-bytes 1000000
//! ctl put foo 'a value'
//! ctl txn
//! < value("foo") = "bar"
//! <
//! start w ctl watch foo
//! until w 3
//! end w
//! ```
//!
//! - `server FLAG…`: flags of the server; before any command.
//! - `ctl WORD…`, `utl WORD…`: runs etcdctl or etcdutl. Words are quoted as in a shell: `'…'` is
//!   taken literally, `"…"` knows `\n`, `\t`, `\xNN`, `\"` and `\\`. `$lease1` is the id of the
//!   first granted lease in hexadecimal, `$endpoint` is the address of the server, and `$large`
//!   is a value of 60,000 bytes. Lines that begin with `<` are the standard input.
//! - `start NAME ctl WORD…` runs it in the background, until `join NAME` (waits for its exit),
//!   `interrupt NAME` (sends it SIGINT and waits) or `end NAME` (kills it); all show its output. `say NAME TEXT` writes a line to its standard
//!   input, `until NAME LINES` waits for that many lines of output.
//! - `pause MILLISECONDS`: waits; for events that cannot be observed.
//! - `serve DIRECTORY`: stops the server and starts it on this directory.
//! - `differs ROW`: this row of `docs/differences.md` allows the output of the next command to
//!   differ between servers.

use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::time::Duration;

/// A script.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// The file's name without its extension.
    pub name: String,
    /// Flags of the server besides the usual ones.
    pub server_flags: Vec<String>,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// One command and its location.
#[derive(Clone, Debug)]
pub struct Step {
    /// The line in the file, from 1.
    pub line: usize,
    /// The command as written.
    pub text: String,
    /// The row of `docs/differences.md` that allows the output to differ.
    pub differs: Option<String>,
    /// The action.
    pub action: Action,
}

/// A client program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// etcdctl.
    Ctl,
    /// etcdutl, or etcdctl if there is none: it had these commands in older versions.
    Utl,
}

/// The action of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Runs a program until it exits.
    Run {
        /// The program.
        program: Program,
        /// Its arguments.
        words: Vec<String>,
        /// Its standard input.
        input: String,
    },
    /// Starts a program in the background.
    Start {
        /// Its name in the script.
        name: String,
        /// The program.
        program: Program,
        /// Its arguments.
        words: Vec<String>,
    },
    /// Writes a line to the standard input of a started program.
    Say {
        /// The program's name in the script.
        name: String,
        /// The line, without the newline.
        text: String,
    },
    /// Waits until a started program has printed this many lines.
    Until {
        /// The program's name in the script.
        name: String,
        /// How many.
        lines: usize,
    },
    /// Kills a started program and shows its output.
    End(String),
    /// Sends a started program SIGINT, waits until it exits, and shows its output.
    Interrupt(String),
    /// Waits until a started program exits, and shows its output.
    Join(String),
    /// Waits this long.
    Pause(Duration),
    /// Stops the server and starts it on another directory.
    Serve(String),
}

/// Reads the scripts of a directory, sorted by name.
///
/// # Errors
/// When a file cannot be read or has an invalid line.
pub fn read_all(directory: &Path) -> Result<Vec<Script>> {
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("cannot list {}", directory.display()))?;
    let mut scripts = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let text = std::fs::read_to_string(&path)?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            scripts.push(parse(name, &text).with_context(|| path.display().to_string())?);
        }
    }
    ensure!(!scripts.is_empty(), "no script in {}", directory.display());
    scripts.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(scripts)
}

/// Reads one script.
///
/// # Errors
/// When a line is invalid.
pub fn parse(name: String, text: &str) -> Result<Script> {
    let mut script = Script { name, ..Script::default() };
    let mut differs = None;
    for (line, text) in (1..).zip(text.lines()) {
        let place = || format!("line {line}: {text}");
        if text.trim().is_empty() || text.starts_with('#') {
            continue;
        }
        if let Some(given) = text.strip_prefix('<') {
            let given = given.strip_prefix(' ').unwrap_or(given);
            let Some(Step { action: Action::Run { input, .. }, text: shown, .. }) =
                script.steps.last_mut()
            else {
                bail!("{}: no command before its input", place());
            };
            input.push_str(given);
            input.push('\n');
            shown.push('\n');
            shown.push_str(text);
            continue;
        }
        let (command, rest) = text.split_once(' ').with_context(place)?;
        match command {
            "server" => script.server_flags.extend(words(rest).with_context(place)?),
            "differs" => differs = Some(rest.trim().to_owned()),
            _ => {
                let action = action(command, rest).with_context(place)?;
                let text = text.to_owned();
                script.steps.push(Step { line, text, differs: differs.take(), action });
            }
        }
    }
    Ok(script)
}

fn action(command: &str, rest: &str) -> Result<Action> {
    let (first, more) = rest.split_once(' ').unwrap_or((rest, ""));
    let name = first.to_owned();
    Ok(match command {
        "start" => {
            let (program, rest) = more.split_once(' ').context("start NAME ctl WORD…")?;
            Action::Start { name, program: program_named(program)?, words: words(rest)? }
        }
        "say" => Action::Say { name, text: more.to_owned() },
        "until" => Action::Until { name, lines: more.parse()? },
        "end" => Action::End(name),
        "interrupt" => Action::Interrupt(name),
        "join" => Action::Join(name),
        "pause" => Action::Pause(Duration::from_millis(first.parse()?)),
        "serve" => Action::Serve(name),
        _ => Action::Run {
            program: program_named(command)?,
            words: words(rest)?,
            input: String::new(),
        },
    })
}

fn program_named(name: &str) -> Result<Program> {
    match name {
        "ctl" => Ok(Program::Ctl),
        "utl" => Ok(Program::Utl),
        other => bail!("no command {other}"),
    }
}

/// Splits a line into words, with quotes as in a shell.
///
/// # Errors
/// When a quote is not closed or an escape is unknown.
pub fn words(line: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match char {
            ' ' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().context("a quote is not closed")? {
                        '\'' => break,
                        char => word.push(char),
                    }
                }
            }
            '"' => double_quoted(&mut chars, word.get_or_insert_default())?,
            char => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    Ok(words)
}

fn double_quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<()> {
    loop {
        let char = chars.next().context("a quote is not closed")?;
        match char {
            '"' => return Ok(()),
            '\\' => match chars.next() {
                Some('n') => word.push('\n'),
                Some('t') => word.push('\t'),
                Some('x') => {
                    let digits: String = chars.by_ref().take(2).collect();
                    word.push(char::from(u8::from_str_radix(&digits, 16)?));
                }
                Some(char @ ('"' | '\\')) => word.push(char),
                other => bail!("no escape {other:?}"),
            },
            char => word.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_and_quoted_as_in_a_shell() {
        assert_eq!(
            words(r#"put a 'b  c' "d\n\"e" x"y" """#).unwrap(),
            ["put", "a", "b  c", "d\n\"e", "xy", ""]
        );
        words("put 'a").unwrap_err();
        words(r#"put "\q""#).unwrap_err();
    }

    #[test]
    fn a_script_is_its_flags_and_its_steps() {
        let text = "# what\nserver --a b\n\nctl txn\n< one\n<\ndiffers row\nend w\n";
        let script = parse("x".into(), text).unwrap();
        assert_eq!(script.server_flags, ["--a", "b"]);
        let Action::Run { input, .. } = &script.steps[0].action else { panic!("not a command") };
        assert_eq!(input, "one\n\n");
        assert_eq!(script.steps[1].action, Action::End("w".into()));
        assert_eq!(script.steps[1].differs.as_deref(), Some("row"));
        assert_eq!(script.steps[1].line, 8);
    }

    #[test]
    fn the_scripts_can_be_read_and_their_rows_are_listed_and_have_transcripts() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let rows = std::fs::read_to_string(root.join("../../docs/differences.md")).unwrap();
        for script in read_all(&root.join("scripts")).unwrap() {
            for row in script.steps.iter().filter_map(|step| step.differs.as_ref()) {
                assert!(rows.contains(&format!("| `{row}` |")), "{}: {row}", script.name);
            }
            let transcript = root.join("transcripts").join(format!("{}.txt", script.name));
            assert!(transcript.exists(), "{}", transcript.display());
        }
    }

    #[test]
    fn lines_that_mean_nothing_are_refused() {
        for text in ["nonsense x\n", "< input\n", "until w many\n", "start w\n"] {
            parse("x".into(), text).unwrap_err();
        }
    }
}

//! The completion scripts of shells. A script passes the words up to the cursor to the hidden
//! command of [`crate::completion`] and offers what it prints.

use crate::{Flag, Flags};

/// The shells that have a script.
pub const SHELLS: &[&str] = &["bash", "zsh", "fish", "powershell"];

/// Stands in the scripts for the name of the program.
const PROGRAM: &str = "PROGRAM";

/// Leaves the descriptions of the offered words out. Only the tools of 3.5 have it, so the help does
/// not show it.
pub const NO_DESCRIPTIONS: Flag =
    Flag::switch("no-descriptions", "offer words without their descriptions").unlisted();

/// The script that the command `completion` prints for a shell, or nothing for one that has none.
#[must_use]
pub fn completion_script(shell: &[u8], flags: &Flags, program: &str) -> Option<String> {
    let script = script(shell, program)?;
    if flags.bool(NO_DESCRIPTIONS.name) {
        return Some(script.replace(" __complete ", " __completeNoDesc "));
    }
    Some(script)
}

/// The script for a shell, or nothing for one that has none.
fn script(shell: &[u8], program: &str) -> Option<String> {
    let script = match shell {
        b"bash" => include_str!("../completion/bash.sh"),
        b"zsh" => include_str!("../completion/zsh.sh"),
        b"fish" => include_str!("../completion/fish.fish"),
        b"powershell" => include_str!("../completion/powershell.ps1"),
        _ => return None,
    };
    Some(script.replace(PROGRAM, program))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arguments, Command, parse_flags};

    #[test]
    fn every_shell_has_a_script_that_asks_the_program() {
        for shell in SHELLS {
            let script = script(shell.as_bytes(), "tool").unwrap();
            assert!(script.contains(" __complete") && script.contains("tool"), "{shell}");
            assert!(!script.contains(PROGRAM), "{shell}");
        }
        assert_eq!(script(b"tcsh", "tool"), None);
    }

    #[test]
    fn without_descriptions_the_script_asks_for_words_alone() {
        static COMPLETION: Command = Command {
            usage: "completion",
            arguments: Arguments::OneOf(SHELLS),
            flags: &[NO_DESCRIPTIONS],
            ..Command::NONE
        };
        for shell in SHELLS {
            let text = |words: &[&str]| {
                let words: Vec<_> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
                let parsed = parse_flags(&COMPLETION, &words).unwrap();
                completion_script(&parsed.args[0], &parsed.flags, "tool").unwrap()
            };
            let bare = text(&[shell, "--no-descriptions"]);
            assert!(bare.contains(" __completeNoDesc ") && !bare.contains(" __complete "));
            assert_eq!(text(&[shell]), script(shell.as_bytes(), "tool").unwrap());
        }
    }
}

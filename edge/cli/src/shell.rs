//! The completion scripts of shells. A script passes the words up to the cursor to the hidden
//! command of [`crate::completion`] and offers what it prints.

/// The shells that have a script.
pub const SHELLS: &[&str] = &["bash", "zsh", "fish", "powershell"];

/// Stands in the scripts for the name of the program.
const PROGRAM: &str = "PROGRAM";

/// The script for a shell, or nothing for one that has none.
#[must_use]
pub fn script(shell: &[u8], program: &str) -> Option<String> {
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

    #[test]
    fn every_shell_has_a_script_that_asks_the_program() {
        for shell in SHELLS {
            let script = script(shell.as_bytes(), "tool").unwrap();
            assert!(script.contains(" __complete") && script.contains("tool"), "{shell}");
            assert!(!script.contains(PROGRAM), "{shell}");
        }
        assert_eq!(script(b"tcsh", "tool"), None);
    }
}

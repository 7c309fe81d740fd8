//! The prompt for a password.

#![expect(clippy::print_stdout, reason = "the prompt is printed as etcdctl prints it")]

use nix::sys::termios;
use std::io::Write as _;

/// Asks for a password. A terminal does not show the characters.
///
/// # Errors
/// When the standard input ends or cannot be read.
pub fn ask_password(prompt: &str) -> Result<String, String> {
    print!("{prompt}");
    std::io::stdout().flush().map_err(|error| error.to_string())?;
    let shown = termios::tcgetattr(std::io::stdin()).ok();
    if let Some(shown) = &shown {
        let mut hidden = shown.clone();
        hidden.local_flags.remove(termios::LocalFlags::ECHO);
        hidden.local_flags.insert(termios::LocalFlags::ECHONL);
        set(&hidden)?;
    }
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    if let Some(shown) = &shown {
        set(shown)?;
    }
    match read {
        Ok(1..) => Ok(line.trim_end_matches(['\r', '\n']).to_string()),
        Ok(0) => Err("EOF".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn set(settings: &termios::Termios) -> Result<(), String> {
    let set = termios::tcsetattr(std::io::stdin(), termios::SetArg::TCSADRAIN, settings);
    set.map_err(|error| error.to_string())
}

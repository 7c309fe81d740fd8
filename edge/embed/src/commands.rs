//! The commands of `etcd`, which runs a member without one: `gateway` and `grpc-proxy`.
//!
//! Source: etcd server/etcdmain/main.go @ v3.7.1.

use crate::console::print;
use crate::logging::LogOutput;
use crate::{gateway, grpc_proxy};
use cli::{Command, Invocation, Parsed};
use tracing::Level;

/// The program, as far as it has commands.
pub(crate) static ROOT: Command = Command {
    usage: "etcd",
    short: "etcd server",
    commands: &[gateway::COMMAND, grpc_proxy::COMMAND],
    ..Command::NONE
};

/// Whether the first argument is a command.
pub(crate) fn is_command(word: &str) -> bool {
    ROOT.commands.iter().any(|command| command.name() == word)
}

/// Runs a command from the arguments of the process, and gives the exit code.
pub(crate) fn main(arguments: &[String]) -> u8 {
    let words: cli::Words = arguments.iter().skip(1).map(|word| word.as_bytes().to_vec()).collect();
    let parsed = match cli::parse(&ROOT, &words) {
        Invocation::Help(text) => {
            print(&mut std::io::stdout(), &text);
            return 0;
        }
        Invocation::Wrong(text) => {
            print(&mut std::io::stderr(), &text);
            return 1;
        }
        Invocation::Run(parsed) => parsed,
    };
    match run(&parsed, arguments) {
        Ok(()) => 0,
        Err(error) => {
            print(&mut std::io::stderr(), &format!("{error}\n"));
            1
        }
    }
}

fn run(parsed: &Parsed, arguments: &[String]) -> Result<(), String> {
    let flags = &parsed.flags;
    let is_proxy = parsed.name().starts_with(grpc_proxy::COMMAND.name());
    let lowest = if is_proxy && flags.bool("debug") { Level::DEBUG } else { Level::INFO };
    LogOutput::early_from(lowest).install();
    tracing::info!(args = ?arguments, "Running: ");
    if is_proxy { grpc_proxy::run(flags) } else { gateway::run(flags) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_commands_and_flags_of_etcds_server_are_there() {
        let list = include_str!("../checklist/etcd-3.7.1-commands.txt");
        assert_eq!(list.lines().count(), 51, "the list is whole");
        assert_eq!(cli::missing(&ROOT, list), [""; 0]);
    }
}

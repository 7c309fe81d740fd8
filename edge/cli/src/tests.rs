//! Command lines, as cobra and pflag read them.

use crate::{Arguments, Command, Flag, Invocation, Kind, Parsed, parse};
use std::collections::BTreeMap;

static ROOT: Command = Command {
    usage: "tool",
    short: "A tool.",
    persistent: &[
        Flag::new("endpoints", Kind::List, "127.0.0.1:2379", "where"),
        Flag::switch("hex", "in hexadecimal"),
        Flag::new("timeout", Kind::Duration, "5s", "how long"),
        Flag::new("write-out", Kind::Text, "simple", "which format").short('w'),
    ],
    hidden: true,
    groups: &["Keys", "Rest"],
    commands: &[
        Command {
            usage: "copy <file>",
            short: "Copies",
            group: "Rest",
            arguments: Arguments::One,
            flags: &[
                Flag::new("to", Kind::Text, "", "where to").required(),
                Flag::new("as", Kind::Text, "", "which name").required(),
            ],
            ..Command::NONE
        },
        Command {
            usage: "get [options] <key>",
            short: "Gets",
            group: "Keys",
            flags: &[
                Flag::new("limit", Kind::Int, "0", "how many"),
                Flag::switch("prefix", "all that begin so").short('p'),
            ],
            ..Command::NONE
        },
        Command { usage: "help", short: "Helps", group: "Rest", ..Command::NONE },
        Command {
            usage: "lease <subcommand>",
            short: "Leases",
            group: "Keys",
            persistent: &[Flag::switch("cluster", "everywhere")],
            commands: &[
                Command { usage: "list", short: "Lists", ..Command::NONE },
                Command { usage: "revoke <id>", short: "Revokes", ..Command::NONE },
            ],
            ..Command::NONE
        },
        Command {
            usage: "leave",
            short: "Moved away",
            group: "Keys",
            is_unlisted: true,
            ..Command::NONE
        },
        Command { usage: "lock", short: "Locks", group: "Rest", ..Command::NONE },
        Command {
            usage: "script [bash|zsh]",
            short: "Prints a script",
            group: "Rest",
            arguments: Arguments::OneOf(&["bash", "zsh"]),
            ..Command::NONE
        },
    ],
    ..Command::NONE
};

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').filter(|word| !word.is_empty()).map(|word| word.as_bytes().to_vec()).collect()
}

fn run(line: &str) -> Parsed {
    let outcome = parse(&ROOT, &words(line));
    let Invocation::Run(parsed) = outcome else { panic!("{line}: {outcome:?}") };
    parsed
}

fn wrong(line: &str) -> String {
    let outcome = parse(&ROOT, &words(line));
    let Invocation::Wrong(text) = outcome else { panic!("{line}: {outcome:?}") };
    text
}

#[test]
fn flags_stand_anywhere_and_commands_may_be_short() {
    for line in
        ["get k --limit 3", "--hex get --limit=3 k", "-w json ge k --limit 0x3", "g --limit 3 -- k"]
    {
        let parsed = run(line);
        assert_eq!(parsed.name(), "get", "{line}");
        assert_eq!(parsed.args, words("k"), "{line}");
        assert_eq!(parsed.flags.int("limit"), 3, "{line}");
    }
    assert_eq!(run("lea li").name(), "lease list");
    assert_eq!(run("lease list --cluster").inherited().last(), Some(&"cluster"));
}

#[test]
fn what_follows_two_dashes_is_an_argument() {
    let parsed = run("get a -- --limit -w");
    assert_eq!(parsed.args, words("a --limit -w"));
    assert_eq!(parsed.dash, Some(1));
    assert_eq!(run("get a").dash, None);
}

#[test]
fn short_flags_join() {
    let parsed = run("get -pwjson k");
    assert!(parsed.flags.bool("prefix"));
    assert_eq!(parsed.flags.text("write-out"), "json");
    assert_eq!(run("get -w=json k").flags.text("write-out"), "json");
}

#[test]
fn a_list_given_again_grows() {
    let parsed = run("get k --endpoints a,b --endpoints c");
    assert_eq!(parsed.flags.list("endpoints"), ["a", "b", "c"]);
}

#[test]
fn errors_are_pflags() {
    for (line, error) in [
        ("get --nosuch", "unknown flag: --nosuch"),
        ("get -x", "unknown shorthand flag: 'x' in -x"),
        ("get --limit", "flag needs an argument: --limit"),
        ("get -w", "flag needs an argument: 'w' in -w"),
        ("get ---a", "bad flag syntax: ---a"),
        (
            "get --limit x",
            "invalid argument \"x\" for \"--limit\" flag: strconv.ParseInt: parsing \"x\": invalid \
             syntax",
        ),
        (
            "get --timeout 5",
            "invalid argument \"5\" for \"--timeout\" flag: time: missing unit in duration \"5\"",
        ),
    ] {
        let text = wrong(line);
        assert_eq!(text.lines().next(), Some(format!("Error: {error}").as_str()));
        assert!(text.ends_with("\n\n") && text.contains("Usage:\n  tool get"), "{text}");
    }
}

#[test]
fn arguments_and_required_flags_are_checked() {
    for (line, error) in [
        ("copy --to x --as y", "accepts 1 arg(s), received 0"),
        ("copy", "accepts 1 arg(s), received 0"),
        ("copy a b --to x", "accepts 1 arg(s), received 2"),
        ("copy a", "required flag(s) \"as\", \"to\" not set"),
        ("copy a --as=", "required flag(s) \"to\" not set"),
        ("script", "accepts 1 arg(s), received 0"),
        ("script bash zsh", "accepts 1 arg(s), received 2"),
        ("script tcsh", "invalid argument \"tcsh\" for \"tool script\""),
    ] {
        assert_eq!(wrong(line).lines().next(), Some(format!("Error: {error}").as_str()), "{line}");
    }
    assert_eq!(run("copy a --to x --as y").args, words("a"));
    assert_eq!(run("script zsh").args, words("zsh"));
}

#[test]
fn an_unknown_command_gets_suggestions() {
    assert_eq!(
        wrong("l"),
        "Error: unknown command \"l\" for \"tool\"\n\nDid you mean this?\n\tlease\n\tlock\n\nRun \
         'tool --help' for usage.\n"
    );
    assert!(wrong("--prefix get k").starts_with("Error: unknown command \"k\""));
    assert_eq!(
        wrong("nothing-like-it"),
        "Error: unknown command \"nothing-like-it\" for \"tool\"\nRun 'tool --help' for usage.\n"
    );
}

#[test]
fn help_has_cobras_layout() {
    let Invocation::Help(text) = parse(&ROOT, &words("lease")) else { panic!("not help") };
    assert_eq!(
        text,
        "Leases\n\nUsage:\n  tool lease [command]\n\nAvailable Commands:\n  list        Lists\n  \
         revoke      Revokes\n\nFlags:\n      --cluster   everywhere\n  -h, --help      help for \
         lease\n\nUse \"tool lease [command] --help\" for more information about a command.\nUse \
         \"tool options\" for a list of global command-line options (applies to all commands).\n"
    );
    let Invocation::Help(text) = parse(&ROOT, &words("help get")) else { panic!("not help") };
    assert!(text.contains("  tool get [options] <key> [flags]\n"), "{text}");
    let Invocation::Help(text) = parse(&ROOT, &words("-h")) else { panic!("not help") };
    let order = ["Keys\n", "get", "lease", "Rest\n", "help", "lock"].map(|word| text.find(word));
    assert!(order.is_sorted() && order[0].is_some(), "{text}");
}

#[test]
fn the_environment_sets_what_the_command_line_does_not() {
    let mut parsed = run("get k --hex");
    let names = parsed.inherited();
    let mut variables = BTreeMap::from([
        ("TOOL_WRITE_OUT".to_string(), b"json".to_vec()),
        ("TOOL_TIMEOUT".to_string(), b"not a duration".to_vec()),
        ("TOOL_NOSUCH".to_string(), b"1".to_vec()),
        ("TOOL_QUIET".to_string(), b"1".to_vec()),
        ("OTHER".to_string(), b"1".to_vec()),
    ]);
    let quiet = ["TOOL_QUIET"];
    let said = parsed.flags.set_from_environment("TOOL", &names, &quiet, &variables);
    assert_eq!(parsed.flags.text("write-out"), "json");
    assert_eq!(parsed.flags.duration("timeout").as_secs(), 5);
    assert_eq!(said.unrecognized, ["TOOL_NOSUCH=1"]);
    assert_eq!(said.shadowed, None);
    variables.insert("TOOL_HEX".to_string(), b"true".to_vec());
    let mut parsed = run("get k --hex");
    let said = parsed.flags.set_from_environment("TOOL", &names, &quiet, &variables);
    assert_eq!(said.shadowed.as_deref(), Some("TOOL_HEX"));
}

#[test]
fn tables_are_boxes() {
    let rows = [vec!["1".to_string(), "long ".to_string()]];
    assert_eq!(
        crate::table(&["some_id", "x"], &rows),
        "┌─────────┬──────┐\n│ SOME ID │  X   │\n├─────────┼──────┤\n│       1 │ long │\n\
         └─────────┴──────┘\n"
    );
}

#[test]
fn a_command_that_is_not_listed_runs_and_is_not_shown() {
    assert_eq!(run("leave").name(), "leave");
    assert_eq!(run("leav").name(), "leave");
    assert_eq!(run("le list").name(), "lease list", "`le` means the one that is listed");
    let Invocation::Help(text) = parse(&ROOT, &words("--help")) else { panic!() };
    assert!(text.contains("lease") && !text.contains("leave"), "{text}");
}

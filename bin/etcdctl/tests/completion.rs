//! The completion script in a real bash: its offers for command lines, which are split into words
//! as bash does it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::Command;

/// Loads the script, and asks it for the words behind `$line` with the cursor at their end. bash
/// gives the words separately, split also at the characters of `COMP_WORDBREAKS`.
const ASK: &str = r#"
etcdctl=$1; shift
source <("$etcdctl" completion bash)
line=$1; shift
COMP_LINE=$line COMP_POINT=${#line} COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
COMPREPLY=()
$(complete -p etcdctl | sed 's/.*-F \([^ ]*\) .*/\1/')
printf '%s\n' "${COMPREPLY[@]}"
"#;

/// What bash offers for a command line that is split into these words.
fn offered(line: &str, words: &[&str], before: &str) -> String {
    let program = env!("CARGO_BIN_EXE_etcdctl");
    let output = Command::new("bash")
        .args(["--norc", "--noprofile", "-u", "-c", &format!("{before}\n{ASK}"), "bash", program])
        .arg(line.replacen("etcdctl", program, 1))
        .args(words.iter().map(|word| if *word == "etcdctl" { program } else { *word }))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    // Without a terminal, bash complains that `compopt` cannot change the options.
    let bad = errors.lines().find(|line| !line.contains("compopt"));
    assert_eq!(bad, None, "{line}");
    String::from_utf8(output.stdout).unwrap().trim_end().replace('\n', " ")
}

#[test]
fn bash_completes_commands_flags_and_values() {
    let split: [(&str, &[&str], &str); 9] = [
        ("etcdctl ge", &["etcdctl", "ge"], "get"),
        ("etcdctl   lease ", &["etcdctl", "lease", ""], "grant keep-alive list revoke timetolive"),
        ("etcdctl get --sort-by V", &["etcdctl", "get", "--sort-by", "V"], "VALUE VERSION"),
        ("etcdctl get --order=", &["etcdctl", "get", "--order", "="], "ASCEND DESCEND"),
        ("etcdctl get --order=A", &["etcdctl", "get", "--order", "=", "A"], "ASCEND"),
        (
            "etcdctl --endpoints=http://a:1 get --pref",
            &["etcdctl", "--endpoints", "=", "http", ":", "//a", ":", "1", "get", "--pref"],
            "--prefix",
        ),
        ("etcdctl get 'a b' --limi", &["etcdctl", "get", "'a b'", "--limi"], "--limit"),
        ("etcdctl completion ", &["etcdctl", "completion", ""], "bash zsh fish powershell"),
        ("etcdctl get ", &["etcdctl", "get", ""], ""),
    ];
    for (line, words, expected) in split {
        assert_eq!(offered(line, words, ""), expected, "{line}");
    }
}

#[test]
fn bash_completes_a_value_with_its_flag_where_the_equal_sign_does_not_split() {
    let words = ["etcdctl", "get", "--order=D"];
    let before = "COMP_WORDBREAKS=${COMP_WORDBREAKS//=}";
    assert_eq!(offered("etcdctl get --order=D", &words, before), "--order=DESCEND");
}

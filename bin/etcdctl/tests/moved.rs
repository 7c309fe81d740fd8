//! Command lines and variables of older versions: a script must not believe that a command worked
//! which is in another program now.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::Command;

/// The exit code, the output and the errors of `etcdctl` with these words.
fn run(line: &str, api: Option<&str>) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcdctl"));
    command.args(line.split(' ')).env_remove("ETCDCTL_API");
    command.envs(api.map(|version| ("ETCDCTL_API", version)));
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn commands_that_moved_to_etcdutl_fail_and_name_it() {
    for (line, command) in [
        ("snapshot status s.db", "etcdutl snapshot status"),
        ("snapshot restore s.db --data-dir d --skip-hash-check", "etcdutl snapshot restore"),
        ("defrag --data-dir d", "etcdutl defrag --data-dir"),
    ] {
        let (code, out, errors) = run(line, None);
        assert_eq!((code, &out[..]), (1, ""), "{line}");
        assert!(errors.contains(command), "{errors}");
    }
}

#[test]
fn version_3_of_the_api_is_silent_and_any_other_is_refused() {
    for api in [None, Some(""), Some("3")] {
        let (code, out, errors) = run("version", api);
        assert_eq!((code, &errors[..]), (0, ""), "{api:?}");
        assert!(out.starts_with("etcdctl version: "), "{out}");
    }
    let unreachable = "get k --endpoints 127.0.0.1:1 --command-timeout 100ms";
    let (_, _, errors) = run(unreachable, Some("3"));
    assert!(!errors.contains("unrecognized"), "{errors}");
    for api in ["2", "4"] {
        let (code, out, errors) = run("version", Some(api));
        assert_eq!((code, &out[..]), (1, ""), "{api}");
        assert!(errors.contains(&format!("unsupported API version: {api}")), "{errors}");
    }
}

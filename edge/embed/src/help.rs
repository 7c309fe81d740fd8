//! `--help`, the usage line and `--version`, from the table of flags.

use crate::flags::{Built, FLAGS, Flag, GROUPS};
use crate::value::Kind;

/// The version of etcd that this server follows.
pub const ETCD_VERSION: &str = net::endpoints::VERSION;
/// The version of retcd.
pub const RETCD_VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit of the build, if known.
pub const GIT_SHA: &str = env!("RETCD_GIT_SHA");
/// The version of the compiler.
pub const RUSTC: &str = env!("RETCD_RUSTC");

/// The usage: printed after an error of the command line, and at the top of `--help`.
pub const USAGE: &str = "Usage:

  etcd [flags]
    Starts a server.

  etcd gateway start
    Starts a TCP proxy; see etcd gateway start --help.
  etcd grpc-proxy start
    Starts a proxy of the gRPC API; see etcd grpc-proxy start --help.

  etcd --version
    Prints the version.

  etcd -h | --help
    Prints this.

  etcd --config-file <path>
    Starts a server with the settings of a YAML file; other flags and the
    environment are then ignored. Durations in the file are whole nanoseconds
    (5000000000 for 5s).
";

/// The operating system and processor in Go's names.
pub fn platform() -> (&'static str, &'static str) {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    (std::env::consts::OS, arch)
}

/// The output of `--version`, four lines.
pub fn version() -> String {
    let (os, arch) = platform();
    format!(
        "etcd Version: {ETCD_VERSION}\nGit SHA: {GIT_SHA}\nGo Version: none (retcd \
         {RETCD_VERSION}, {RUSTC})\nGo OS/Arch: {os}/{arch}\n"
    )
}

/// The text of `--help`.
pub fn help() -> String {
    let mut text = format!("{USAGE}\n");
    for (group, title) in GROUPS {
        text.push_str(&format!("{title}:\n"));
        for flag in FLAGS.iter().filter(|flag| flag.group == group) {
            entry(&mut text, flag);
        }
        text.push('\n');
    }
    text
}

fn entry(text: &mut String, flag: &Flag) {
    let shown = match (flag.name, flag.kind) {
        ("data-dir", _) => " '${name}.etcd'".to_owned(),
        ("initial-cluster", _) => " 'default=http://localhost:2380'".to_owned(),
        _ => format!(" '{}'", flag.default),
    };
    text.push_str(&format!("  --{}{shown}\n    {}\n", flag.name, flag.help));
    match flag.built {
        Built::Yes => {}
        Built::No(what) => {
            text.push_str(&format!(
                "    Not built yet: {what}. Any value but the default is refused.\n"
            ));
        }
        Built::NoEffect(why) => {
            text.push_str(&format!("    Has no effect: {why}.\n"));
        }
    }
    if flag.kind == Kind::Gates {
        for (name, stage, on) in crate::gates::Gates::default().all() {
            text.push_str(&format!("      {name}=true|false ({} - default={on})\n", stage.label()));
        }
    }
}

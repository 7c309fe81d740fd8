//! Puts the compiler's version and, in a release, the commit into the program, for `--version`.

use std::process::Command;

/// The first line that a command prints, or `None` when it fails.
fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}

fn main() {
    println!("cargo::rerun-if-env-changed=GIT_SHA");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let rustc = first_line(&rustc, &["--version"]).unwrap_or_else(|| "rustc".to_owned());
    println!("cargo::rustc-env=RETCD_RUSTC={rustc}");
    // In development a new commit must not mean a new build.
    let released = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = std::env::var("GIT_SHA").ok().filter(|sha| !sha.is_empty()).or_else(|| {
        let head = std::path::Path::new("../../.git/logs/HEAD");
        if !released || !head.exists() {
            println!("cargo::rerun-if-changed=build.rs");
            return None;
        }
        println!("cargo::rerun-if-changed={}", head.display());
        first_line("git", &["rev-parse", "--short", "HEAD"])
    });
    let commit = commit.unwrap_or_else(|| "Not provided".to_owned());
    println!("cargo::rustc-env=RETCD_GIT_SHA={commit}");
}

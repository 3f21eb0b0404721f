//! Notes what the program is built from, for `--version` and `build_info`.

use std::env;
use std::process::Command;

fn main() {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let rustc = output(&rustc, &["--version"]);
    let rustc = rustc.split(' ').nth(1).unwrap_or("unknown");
    // A source archive has no git; whoever builds from one can say what it is.
    let revision =
        env::var("CRE_REVISION").unwrap_or_else(|_| output("git", &["rev-parse", "--short=12", "HEAD"]));
    let revision = if revision.is_empty() { "unknown" } else { &revision };
    println!("cargo::rustc-env=CRE_REVISION={revision}");
    println!("cargo::rustc-env=CRE_RUSTC={rustc}");
    println!("cargo::rerun-if-env-changed=CRE_REVISION");
    println!("cargo::rerun-if-changed=build.rs");
    // Changes with every commit and checkout; in a linked worktree it is elsewhere.
    let log = output("git", &["rev-parse", "--git-path", "logs/HEAD"]);
    if !log.is_empty() {
        println!("cargo::rerun-if-changed={log}");
    }
}

/// What a command prints, or nothing if it cannot be run.
fn output(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

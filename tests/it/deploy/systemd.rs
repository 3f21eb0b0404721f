//! The systemd units.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::Command;

use super::{debian, files, said, succeed};
use crate::program::until;

/// Copies of the units with the program at a place where it is.
fn units() -> (TempDir, Vec<PathBuf>) {
    let directory = tempfile::tempdir().unwrap();
    for unit in files(Path::new("deploy/systemd")) {
        let text = fs::read_to_string(&unit).unwrap();
        let binary = env!("CARGO_BIN_EXE_container-registry-exporter");
        let text = text.replace("/usr/local/bin/container-registry-exporter", binary);
        fs::write(directory.path().join(unit.file_name().unwrap()), text).unwrap();
    }
    let units = files(directory.path());
    assert_eq!(units.len(), 2);
    (directory, units)
}

#[test]
fn systemd_understands_every_line_of_the_units() {
    let (_directory, units) = units();
    let output = debian("systemd-analyze", "systemd").arg("verify").args(&units).output().unwrap();
    assert!(output.status.success() && said(&output).is_empty(), "{}", said(&output));
}

#[test]
fn the_service_is_exposed_to_little() {
    let (_directory, units) = units();
    let service = units.iter().find(|unit| unit.extension().unwrap() == "service").unwrap();
    // Tenths: 2.0 of 10.
    let mut analyze = debian("systemd-analyze", "systemd");
    succeed(analyze.args(["security", "--offline=true", "--threshold=20", "--no-pager"]).arg(service));
}

#[tokio::test]
async fn under_systemd_the_socket_serves_keys_are_read_and_it_reloads_and_stops() {
    drop(debian("systemd-analyze", "systemd"));
    let out = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_container-registry-exporter");
    let mut script = Command::new("tests/it/deploy/systemd.sh");
    let script = script.arg(program).arg(out.path()).stdin(Stdio::null()).kill_on_drop(true);
    let mut systemd = script.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the units to be tried", async || {
        assert_eq!(
            systemd.try_wait().unwrap(),
            None,
            "it ended; run tests/it/deploy/systemd.sh by hand to see why"
        );
        out.path().join("done").exists().then_some(())
    })
    .await;
    let seen = fs::read_to_string(out.path().join("seen")).unwrap();
    let log = fs::read_to_string(out.path().join("log")).unwrap();

    for line in ["healthy", "reloaded", "container_registry_exporter_config_last_reload_successful 1"] {
        assert!(seen.lines().any(|seen| seen == line), "{line}: {seen}{log}");
    }
    // A sandbox that hides too much of /proc makes it 0.
    assert!(seen.contains("\nprocess_start_time_seconds 1"), "{seen}{log}");
    assert!(seen.contains("Result=success\nExecMainStatus=0\n"), "{seen}{log}");
}

//! The systemd units.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{debian, files, said, succeed};

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

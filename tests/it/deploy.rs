//! What `deploy/` holds works as shipped: the tools that will read it do so here.

mod compose;
mod container;
mod helm;
mod kubernetes;
mod systemd;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use regex::Regex;
use serde_json::Value;

use crate::program::{Files, run, text, tools};

/// A program that `tests/tools` installs.
fn installed(path: &str) -> Command {
    let path = tools().join(path);
    assert!(path.is_file(), "{} is missing; run: tests/tools", path.display());
    Command::new(path)
}

/// A Debian program, of the package that has it.
fn debian(name: &str, package: &str) -> Command {
    let missing = Command::new(name).arg("--version").output().is_err();
    assert!(!missing, "{name} is missing; run: apt-get install -y --no-install-recommends {package}");
    Command::new(name)
}

/// What a command that must succeed prints.
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    text(&output.stdout).to_owned()
}

/// What a command that must not succeed has to say.
fn fail(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?}: {}", said(&output));
    said(&output)
}

fn said(output: &Output) -> String {
    text(&output.stdout).to_owned() + text(&output.stderr)
}

/// The objects of a YAML text.
fn objects(yaml: &str) -> Vec<Value> {
    let program = "import json, sys, yaml\nfor one in yaml.load_all(sys.stdin, yaml.CSafeLoader):\n  print(json.dumps(one))";
    let lines = succeed(installed("python/bin/python").args(["-c", program]).stdin(file_of(yaml)));
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|object| *object != Value::Null)
        .collect()
}

/// Fails if one of the Kubernetes objects of a YAML text has a field that is wrong or unknown.
fn assert_valid(yaml: &str) {
    succeed(installed("python/bin/python").arg("tests/it/deploy/validate.py").stdin(file_of(yaml)));
}

/// An open file without a name, to be read from its beginning.
fn file_of(text: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

/// The only object of a kind.
fn object<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<_> = objects.iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}");
    found[0]
}

/// Has the exporter check the `config.toml` of a `ConfigMap`, with key files beside it as a Secret puts them there.
async fn assert_loads(config_map: &Value) {
    let config = config_map["data"]["config.toml"].as_str().expect("a config.toml");
    let files = Files::with_config(config);
    for key in all(r#"_file = "([a-z-]+)""#, config) {
        fs::write(files.path(&key), "key\n").unwrap();
    }
    let output = run(&["check", &files.flag()]).await;
    assert_eq!(text(&output.stdout), "ok\n", "{}", said(&output));
}

/// All that a regular expression's first group finds.
fn all(pattern: &str, text: &str) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).unwrap();
    pattern.captures_iter(text).map(|captures| captures[1].to_owned()).collect()
}

/// All files below a directory; links are followed.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[tokio::test]
async fn every_flag_and_variable_of_the_exporter_that_deploy_names_exists() {
    let help = run(&["--help"]).await;
    let help = text(&help.stdout);
    let mut found = 0;
    for file in files(Path::new("deploy")) {
        let Ok(content) = fs::read_to_string(&file) else { continue };
        for name in all(r"(--(?:web|log)\.[a-z.-]*[a-z]|\bCRE_[A-Z][A-Z_]+)", &content) {
            let known = help.contains(&name) || name == "CRE_REVISION";
            assert!(known, "{}: {name}", file.display());
            found += 1;
        }
    }
    assert!(found >= 5, "{found}");
}

#[test]
fn everything_deploys_this_version() {
    for (file, pattern) in [
        ("helm/container-registry-exporter/Chart.yaml", r"appVersion: (\S+)"),
        ("kubernetes/exporter/kustomization.yaml", r"newTag: (\S+)"),
        ("kubernetes/sidecar/kustomization.yaml", r"newTag: (\S+)"),
        ("compose/compose.yaml", r"image: container-registry-exporter:(\S+)"),
    ] {
        let text = fs::read_to_string(Path::new("deploy").join(file)).unwrap();
        assert_eq!(all(pattern, &text), BTreeSet::from([env!("CARGO_PKG_VERSION").to_owned()]), "{file}");
    }
}

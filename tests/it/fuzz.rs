//! Every input that fuzzing kept goes through its target again; `tests/fuzz/README.md` tells how they were found.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[path = "../fuzz/bodies/lib.rs"]
mod bodies;

/// Takes one input; panics if it finds something wrong.
type Target = fn(&[u8]);

/// Each target with the fewest files that its corpus must have.
const TARGETS: [(&str, Target, usize); 15] = [
    ("accept", bodies::accept::run, 42),
    ("configuration", bodies::configuration::run, 142),
    ("content_range", bodies::content_range::run, 17),
    ("credentials", bodies::credentials::run, 96),
    ("error_body", bodies::error_body::run, 101),
    ("labels", bodies::labels::run, 26),
    ("ncr_wire", bodies::ncr_wire::run, 92),
    ("query", bodies::query::run, 44),
    ("retry_after", bodies::retry_after::run, 101),
    ("signing", bodies::signing::run, 28),
    ("snapshot", bodies::snapshot::run, 94),
    ("swr_wire", bodies::swr_wire::run, 96),
    ("temporary_key", bodies::temporary_key::run, 20),
    ("texts", bodies::texts::run, 45),
    ("web_configuration", bodies::web_configuration::run, 40),
];

fn names(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(Path::new("tests/fuzz").join(directory)).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_input_that_fuzzing_kept_holds() {
    for (name, target, fewest) in TARGETS {
        let corpus = format!("corpus/{name}");
        let files = names(&corpus);
        assert!(files.len() >= fewest, "{corpus} has {} files", files.len());
        for file in files {
            let path = Path::new("tests/fuzz").join(&corpus).join(file);
            let data = fs::read(&path).unwrap();
            let outcome = catch_unwind(AssertUnwindSafe(|| target(&data)));
            assert!(outcome.is_ok(), "{} finds something wrong", path.display());
        }
    }
}

#[test]
fn every_target_is_built_fuzzed_and_replayed() {
    let targets = TARGETS.map(|(name, ..)| name.to_owned());
    assert_eq!(names("corpus"), targets);
    assert_eq!(names("targets"), targets.clone().map(|name| name + ".rs"));
    let manifest = fs::read_to_string("tests/fuzz/Cargo.toml").unwrap();
    let built: Vec<_> = manifest.lines().filter(|line| line.starts_with("path = \"targets/")).collect();
    assert_eq!(built, targets.map(|name| format!("path = \"targets/{name}.rs\"")));
}

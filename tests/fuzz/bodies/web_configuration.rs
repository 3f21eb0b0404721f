//! The web configuration: YAML that names files.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use container_registry_exporter::server::web_config::WebConfig;

const SECRET: &str = "hunter2-the-secret";

/// Keys of all types to give the secret to. Paths are not among them: they are shown.
const KEYS: [&str; 12] = [
    "cert",
    "key",
    "client_ca",
    "client_auth_type",
    "min_version",
    "cipher_suites",
    "curve_preferences",
    "http2",
    "X-Frame-Options",
    "alice",
    "interval",
    "burst",
];

/// What a user may have made of a value.
const FORMS: [&str; 9] = ["S", "\"S\"", "'S'", "[S]", "\"S", "|\n    S", "!!int S", "&S S", "- S"];

/// Where the files are that configurations name: beside the good ones.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found =
        here.ancestors().map(|directory| directory.join("tests/config/web/good")).find(|path| path.is_dir());
    found.expect("it is above this file")
});

/// The same input has the same outcome, every problem says something, and no message shows a secret.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let outcome = WebConfig::parse(text, &DIRECTORY);
    let again = WebConfig::parse(text, &DIRECTORY);
    assert_eq!(format!("{outcome:?}"), format!("{again:?}"));
    if let Err(error) = outcome {
        assert!(!error.problems.is_empty());
        assert!(error.problems.iter().all(|p| !p.key.is_empty() && !p.message.is_empty()));
    }
    plant(text);
}

/// Puts a line with a secret somewhere into the file. Where depends on the input's length, so that the same input does
/// the same.
fn plant(text: &str) {
    // The secret would be part of a path, or of a key that goes over several lines.
    if text.contains("_file") || text.contains(['?', '{', '[']) {
        return;
    }
    let lines: Vec<&str> = text.lines().collect();
    let at = text.len() % (lines.len() + 1);
    let indent = if text.len().is_multiple_of(3) { "" } else { "  " };
    let key = KEYS[text.len() % KEYS.len()];
    for form in FORMS {
        let line = format!("{indent}{key}: {}", form.replace('S', SECRET));
        let planted = [&lines[..at], &[line.as_str()], &lines[at..]].concat().join("\n");
        if let Err(error) = WebConfig::parse(&planted, &DIRECTORY) {
            assert!(!error.to_string().contains(SECRET), "{error}\n---\n{planted}");
            assert!(!format!("{error:?}").contains(SECRET), "{error:?}\n---\n{planted}");
        }
    }
}

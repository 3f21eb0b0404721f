//! The configuration. The input is the file's text, with `NAME=value` lines of the environment before it if a line
//! `---` ends them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use container_registry_exporter::client::pace::Pace;
use container_registry_exporter::config::Config;

const SECRET: &str = "hunter2-the-secret";

/// Keys of all types to give the secret to. Paths are not among them: they are shown, so that the user can find the
/// file.
const KEYS: [&str; 14] = [
    "access_key",
    "secret_key",
    "security_token",
    "password",
    "username",
    "proxy_url",
    "endpoint",
    "region",
    "interval",
    "requests_per_second",
    "include",
    "organizations",
    "method",
    "tags",
];

/// What a user may have made of a value.
const FORMS: [&str; 10] =
    ["\"S\"", "'S'", "[\"S\"]", "{ a = \"S\" }", "\"S", "S", "'''S", "\"\\S\"", "{ \"S\"", "3 S"];

/// Where the files are that configurations name: beside the good ones.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found =
        here.ancestors().map(|directory| directory.join("tests/config/ok")).find(|path| path.is_dir());
    found.expect("it is above this file")
});

/// The same input has the same outcome, what loads makes sense, and no message shows a secret.
pub fn run(data: &[u8]) {
    let Ok(input) = str::from_utf8(data) else { return };
    let (environment, text) = match input.split_once("---\n") {
        Some((environment, text)) => (environment.lines().filter_map(variable).collect(), text),
        None => (BTreeMap::new(), input),
    };
    let outcome = Config::parse(text, &DIRECTORY, &environment);
    let again = Config::parse(text, &DIRECTORY, &environment);
    assert_eq!(format!("{outcome:?}"), format!("{again:?}"));
    match &outcome {
        Ok(config) => check(config),
        Err(error) => {
            assert!(!error.problems.is_empty());
            assert!(error.problems.iter().all(|p| !p.key.is_empty() && !p.message.is_empty()));
        }
    }
    plant(text, &environment);
}

fn variable(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    Some((name.to_owned(), value.to_owned()))
}

fn check(config: &Config) {
    assert!(!config.sources.is_empty());
    assert!(config.sources.windows(2).all(|two| two[0].name < two[1].name));
    for source in &config.sources {
        let poll = &source.poll;
        assert!(poll.timeout < poll.interval && poll.stale_after >= 2 * poll.interval, "{poll:?}");
        assert!(poll.max_concurrent_requests > 0 && !poll.request_timeout.is_zero(), "{poll:?}");
        assert!(source.tags.full_sweep >= poll.interval);
        Pace::new(poll.requests_per_second);
    }
}

/// Puts a line with a secret somewhere into the file, and the secret into the environment. Where depends on the
/// input's length, so that the same input does the same.
fn plant(text: &str, environment: &BTreeMap<String, String>) {
    // Where the value of such a key is a text of several lines, the secret would be part of a path.
    if text.contains("_file") {
        return;
    }
    let lines: Vec<&str> = text.lines().collect();
    let key = KEYS[text.len() % KEYS.len()];
    let form = FORMS[text.len() / KEYS.len() % FORMS.len()].replace('S', SECRET);
    let at = text.len() % (lines.len() + 1);
    let planted = [&lines[..at], &[format!("{key} = {form}").as_str()], &lines[at..]].concat().join("\n");
    let variables = ["HUAWEICLOUD_SDK_IAM_ENDPOINT", "HUAWEICLOUD_SDK_SK", "NCLOUD_SECRET_KEY"];
    let mut secrets = environment.clone();
    secrets.extend(variables.map(|name| (name.to_owned(), SECRET.to_owned())));
    for variable in
        secrets.iter_mut().filter(|(name, _)| name.starts_with("CRE__") && !name.ends_with("FILE"))
    {
        SECRET.clone_into(variable.1);
    }
    for (text, environment) in [(&*planted, environment), (text, &secrets), (&planted, &secrets)] {
        if let Err(error) = Config::parse(text, &DIRECTORY, environment) {
            assert!(!error.to_string().contains(SECRET), "{error}\n---\n{text}");
            assert!(!format!("{error:?}").contains(SECRET), "{error:?}\n---\n{text}");
        }
    }
}

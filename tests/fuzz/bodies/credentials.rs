//! The files in which the vendors' tools keep credentials, and those that hold one secret each.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use container_registry_exporter::config::secret::Sort;
use container_registry_exporter::config::{Cloud, Config, KeyService, NcrAuth, Secret, SwrAuth};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;

/// A home directory, in memory where there is such a place.
fn home() -> TempDir {
    let memory = Path::new("/dev/shm");
    let home = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    let home = home.expect("there is room for a directory");
    for directory in [".huaweicloud", ".ncloud"] {
        fs::create_dir(home.path().join(directory)).expect("the directory is new");
    }
    home
}

const SWR: &str = "[sources.a]\nprovider = \"swr\"\nregion = \"cn-north-4\"\n";
const NCR: &str = "[sources.a]\nprovider = \"ncr\"\nregion = \"KR\"\n";

/// What is found is a whole credential, and no message shows a line of the file.
pub fn run(data: &[u8]) {
    static HOME: LazyLock<TempDir> = LazyLock::new(home);
    let home = HOME.path();
    let files = [home.join(".huaweicloud/credentials"), home.join(".ncloud/configure")];
    for file in &files {
        fs::write(file, data).expect("the directory is ours");
    }
    let environment = BTreeMap::from([("HOME".to_owned(), home.display().to_string())]);
    for text in [SWR, NCR] {
        match Config::parse(text, home, &environment) {
            Ok(config) => check(&config),
            Err(error) => hides(&error.to_string(), data),
        }
    }
    match Secret::from_file(Sort::Password, &files[0]).read() {
        Ok(secret) => {
            let secret = secret.expose_secret();
            assert!(!secret.is_empty() && !secret.contains(char::is_control), "{secret:?}");
        }
        Err(error) => hides(&error.to_string(), data),
    }
}

fn check(config: &Config) {
    let secrets = match &config.sources[0].cloud {
        Cloud::Swr(swr) => match &swr.auth {
            SwrAuth::AccessKey { access_key, secret_key, .. } => vec![access_key, secret_key],
            SwrAuth::Temporary(KeyService::IdentityProvider { token, .. }) => vec![token],
            SwrAuth::Temporary(KeyService::Metadata(_)) => vec![],
            other => panic!("{other:?} does not stand in such a file"),
        },
        Cloud::Ncr(ncr) => match &ncr.auth {
            NcrAuth::AccessKey { access_key, secret_key } => vec![access_key, secret_key],
            NcrAuth::ServerRole(_) => vec![],
        },
    };
    for secret in secrets {
        assert!(!secret.read().expect("it was read").expose_secret().is_empty());
    }
}

/// Words of the file that begin like the seeds' secrets are not in `message`.
fn hides(message: &str, data: &[u8]) {
    let data = String::from_utf8_lossy(data);
    for word in data.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.starts_with("hunter2")) {
        assert!(!message.contains(word), "{message}");
    }
}

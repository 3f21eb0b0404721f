//! The file below, the environment above: one tree of values, in which each value knows the variable it came from.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use ::config::{File, FileFormat, Value, ValueKind};

use super::is_unreadable;
use super::keys::{self, Kind};
use super::problem::{ConfigError, Problems};
use super::reading::read_file_within;
use crate::inventory::SourceName;

/// A table of the tree.
pub(super) type Entries = HashMap<String, Value>;

/// What begins with this in the environment is meant for the configuration, and refused if it is not.
const PREFIX: &str = "CRE__";

/// Reads the configuration file.
pub(super) fn read_file(path: &Path) -> Result<String, ConfigError> {
    let failed = |message: String| ConfigError::one("--config.file", message);
    let bytes = read_file_within(path).map_err(|e| {
        let path = path.display();
        failed(match e.kind() {
            io::ErrorKind::NotFound => format!(
                "{path}: no such file; create it as config.example.toml shows, or name another with --config.file \
                 (the command demo needs none)"
            ),
            io::ErrorKind::IsADirectory => format!("{path}: is a directory; name a file"),
            io::ErrorKind::TimedOut => format!("{path}: {e}"),
            _ => format!("{path}: cannot be read ({}); check its owner and mode", e.kind()),
        })
    })?;
    String::from_utf8(bytes)
        .map_err(|_| failed(format!("{}: is not UTF-8 text; save it as UTF-8", path.display())))
}

/// Puts the variables of `environment` over `text`.
///
/// Errors: `text` is no TOML; then there is nothing to walk. Variables that name no key are noted in `problems`.
pub(super) fn layer(
    text: &str,
    environment: &BTreeMap<String, String>,
    problems: &Problems,
) -> Result<Entries, ConfigError> {
    let file = ::config::Config::builder()
        .add_source(File::from_str(text, FileFormat::Toml))
        .build()
        .map_err(|e| not_toml(text, &e))?;
    let declared = declared_sources(&file.cache);
    let mut builder = ::config::Config::builder().add_source(file.clone());
    for (variable, value) in environment.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        let path = match path_of(variable, &declared) {
            Ok(path) => path,
            Err(message) => {
                problems.add(variable, message);
                continue;
            }
        };
        if is_unreadable(value) {
            problems.add(variable, "is not UTF-8; correct or remove it");
            continue;
        }
        // A parent that is no table is an error of the file; overriding would hide it. An empty variable is not set: it
        // must not undo what the file says.
        if !value.is_empty() && has_room(&file.cache, &path) {
            let value = Value::new(Some(variable), value.as_str());
            builder = builder
                .set_override(path.join("."), value)
                .expect("a path of known keys and valid source names is a valid path");
        }
    }
    let tree = builder.build().map_err(|e| not_toml(text, &e))?;
    Ok(tree.cache.into_table().unwrap_or_default())
}

/// The names in the file that are tables and valid: by what their variables call them.
fn declared_sources(file: &Value) -> BTreeMap<String, String> {
    let ValueKind::Table(root) = &file.kind else { return BTreeMap::new() };
    let Some(ValueKind::Table(sources)) = root.get("sources").map(|v| &v.kind) else {
        return BTreeMap::new();
    };
    let valid = sources.keys().filter(|name| SourceName::new(name).is_some());
    valid.map(|name| (name.to_ascii_uppercase().replace('-', "_"), name.clone())).collect()
}

/// The key that a variable sets, level by level, or why it sets none.
fn path_of(variable: &str, declared: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let segments: Vec<&str> = variable[PREFIX.len()..].split("__").collect();
    let (names, kind) = match segments.as_slice() {
        ["SOURCES", source, rest @ ..] => {
            let Some(name) = declared.get(*source) else {
                return Err(
                    "names a source that the file does not declare; declare it there or remove the variable"
                        .to_owned(),
                );
            };
            let key = keys::resolve(keys::SWR, rest).or_else(|| keys::resolve(keys::NCR, rest));
            key.map(|(names, kind)| ([vec!["sources", name], names].concat(), kind))
        }
        ["SOURCES"] => None,
        _ => keys::resolve(keys::ROOT, &segments),
    }
    .ok_or(
        "names no key of the configuration; correct or remove it (CRE__POLL__INTERVAL sets poll.interval)",
    )?;
    match kind {
        Kind::Scalar => Ok(names.into_iter().map(str::to_owned).collect()),
        Kind::List => {
            Err("names a list, which an environment variable cannot set; set it in the file".to_owned())
        }
        Kind::Table(_) => Err("names a section, not a key of it; append __ and the key's name".to_owned()),
    }
}

/// Whether everything above the last level of `path` is a table or absent.
fn has_room(root: &Value, path: &[String]) -> bool {
    let mut value = root;
    for name in path {
        let ValueKind::Table(entries) = &value.kind else { return false };
        let Some(next) = entries.get(name) else { return true };
        value = next;
    }
    true
}

/// Line, column and message only: both libraries would print the line, and the line may hold a secret.
fn not_toml(text: &str, error: &::config::ConfigError) -> ConfigError {
    let cause = match error {
        ::config::ConfigError::FileParse { cause, .. } => cause.downcast_ref::<toml::de::Error>(),
        _ => None,
    };
    let Some(cause) = cause else {
        return ConfigError::one("configuration", "is not valid TOML: a number is out of range");
    };
    let place = match cause.span().and_then(|span| text.get(..span.start)) {
        Some(before) => {
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            format!("line {line}, column {column}")
        }
        None => "configuration".to_owned(),
    };
    ConfigError::one(place, format!("is not valid TOML: {}", cause.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(variable: &str) -> Result<String, String> {
        let declared = BTreeMap::from([("SWR_PROD".to_owned(), "swr-prod".to_owned())]);
        path_of(variable, &declared).map(|p| p.join("."))
    }

    #[test]
    fn a_variable_names_a_key_of_a_declared_source() {
        assert_eq!(path("CRE__POLL__REQUEST_TIMEOUT").unwrap(), "poll.request_timeout");
        assert_eq!(path("CRE__STATE__PATH").unwrap(), "state.path");
        assert_eq!(path("CRE__SOURCES__SWR_PROD__REGION").unwrap(), "sources.swr-prod.region");
        assert_eq!(path("CRE__SOURCES__SWR_PROD__TAGS__NEWEST").unwrap(), "sources.swr-prod.tags.newest");
        assert_eq!(
            path("CRE__SOURCES__SWR_PROD__AUTH__SECRET_KEY").unwrap(),
            "sources.swr-prod.auth.secret_key"
        );
    }

    #[test]
    fn what_names_no_scalar_key_is_refused() {
        for variable in [
            "CRE__",
            "CRE__POLL",
            "CRE__POLL__",
            "CRE__poll__interval",
            "CRE__POLL__INTERVAL__X",
            "CRE__SOURCES",
            "CRE__SOURCES__SWR_PROD",
            "CRE__SOURCES__SWR_PROD__ORGANIZATIONS",
            "CRE__SOURCES__OTHER__REGION",
            "CRE__SOURCES__swr-prod__REGION",
            "CRE__STATE",
        ] {
            assert!(path(variable).is_err(), "{variable}");
        }
    }

    #[test]
    fn an_empty_variable_leaves_what_the_file_says() {
        let text = "poll.interval = '1m'\n[sources.a]\nendpoint = 'https://gateway'\ntags.info = true\nregion = 'KR'";
        let names =
            ["POLL__INTERVAL", "SOURCES__A__ENDPOINT", "SOURCES__A__TAGS__INFO", "SOURCES__A__PROJECT_ID"];
        let empty = names.map(|name| (format!("CRE__{name}"), String::new()));
        let problems = Problems::default();
        let tree = layer(text, &BTreeMap::from(empty), &problems).unwrap();
        assert_eq!(tree, layer(text, &BTreeMap::new(), &problems).unwrap());
        problems.none_or_error().unwrap();
        // Its name must be right all the same.
        let problems = Problems::default();
        layer(text, &BTreeMap::from([("CRE__POLL__INTERVALL".to_owned(), String::new())]), &problems)
            .unwrap();
        problems.none_or_error().unwrap_err();
    }

    #[test]
    fn a_variable_does_not_hide_a_wrong_type_in_the_file() {
        let problems = Problems::default();
        let environment = BTreeMap::from([("CRE__POLL__INTERVAL".to_owned(), "1m".to_owned())]);
        let tree = layer("poll = 3", &environment, &problems).unwrap();
        assert_eq!(tree["poll"].kind, ValueKind::I64(3));
    }
}

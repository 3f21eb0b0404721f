//! What is wrong with a configuration: all of it at once, each problem with its key and the cure.

use std::cell::RefCell;
use std::fmt;

use thiserror::Error;

/// Why a configuration is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{}", lines(.problems))]
pub struct ConfigError {
    /// At least one, in the order of the walk: always the same for the same input.
    pub problems: Vec<Problem>,
}

/// One thing to correct. Never holds a value of the configuration, except paths of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The path of the key, such as `sources.swr-prod.auth.secret_key_file`; an environment variable; a place in
    /// the file.
    pub key: String,
    /// What is wrong and how to cure it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

impl std::error::Error for Problem {}

/// One problem per line.
fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

impl ConfigError {
    /// A single problem after which there is nothing more to look at.
    pub(super) fn one(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { problems: vec![Problem { key: key.into(), message: message.into() }] }
    }
}

/// Collects problems while the walk goes on.
#[derive(Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    /// Notes a problem.
    pub(super) fn add(&self, key: impl Into<String>, message: impl Into<String>) {
        self.0.borrow_mut().push(Problem { key: key.into(), message: message.into() });
    }

    /// Fails if anything was noted.
    pub(super) fn none_or_error(self) -> Result<(), ConfigError> {
        let problems = self.0.into_inner();
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }
}

//! Keys, passwords and tokens: given in the configuration, or read from a file whenever it changes.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use secrecy::SecretString;

/// A key, password or token. `Debug` shows where it comes from, never what it is.
#[derive(Clone)]
pub struct Secret(Arc<Origin>);

enum Origin {
    Value(SecretString),
    File { path: PathBuf, last: Mutex<Option<Read>> },
}

/// What a file said, and by what to tell that it has changed since.
struct Read {
    modified: Option<SystemTime>,
    length: u64,
    value: SecretString,
}

impl Secret {
    /// A secret that stands in the configuration or in an environment variable.
    pub fn from_value(value: SecretString) -> Self {
        Self(Arc::new(Origin::Value(value)))
    }

    /// A secret in a file; nothing is read yet.
    pub fn from_file(path: &Path) -> Self {
        Self(Arc::new(Origin::File { path: path.to_owned(), last: Mutex::new(None) }))
    }

    /// The secret as it is now. A file is read again when its length or time of change differ; one trailing newline
    /// is dropped.
    ///
    /// Errors: the file cannot be read, is not UTF-8 or is empty; the message names the path, not the content.
    pub fn read(&self) -> io::Result<SecretString> {
        let (path, last) = match &*self.0 {
            Origin::Value(value) => return Ok(value.clone()),
            Origin::File { path, last } => (path, last),
        };
        let name = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let metadata = fs::metadata(path).map_err(name)?;
        let (modified, length) = (metadata.modified().ok(), metadata.len());
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = &*last
            && read.modified == modified
            && read.length == length
        {
            return Ok(read.value.clone());
        }
        let text = fs::read_to_string(path).map_err(name)?;
        let text = text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t));
        if text.is_empty() {
            return Err(name(io::Error::new(io::ErrorKind::InvalidData, "the file is empty")));
        }
        let value = SecretString::from(text);
        *last = Some(Read { modified, length, value: value.clone() });
        Ok(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Origin::Value(_) => f.write_str("Secret(…)"),
            Origin::File { path, .. } => write!(f, "Secret(from {})", path.display()),
        }
    }
}

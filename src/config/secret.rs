//! Keys, passwords and tokens: given in the configuration, or read from a file whenever it changes.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use super::reading::{PATIENCE, read_within};

/// A key, password or token. `Debug` shows where it comes from, never what it is.
#[derive(Clone)]
pub struct Secret(Arc<Origin>);

enum Origin {
    Value { value: SecretString, place: String },
    File { path: PathBuf, sort: Sort, last: Arc<Mutex<Option<Read>>> },
}

/// What a secret is for, and so what its text may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// An access key or a secret key: visible ASCII. With anything else in it the cloud would refuse it, and a few
    /// refusals lock it.
    Key,
    /// A password. Blanks at its ends may be meant; they are warned of.
    Password,
    /// A token, which others write to a file: blanks around it are not part of it.
    Token,
}

impl Sort {
    /// The secret in `text`, which came from `place`.
    ///
    /// Errors: it cannot be a secret of this sort; the message does not repeat it.
    fn read<'a>(self, text: &'a str, place: &dyn fmt::Display) -> Result<&'a str, &'static str> {
        let bare = text.trim_matches(is_blank);
        let text = if self == Self::Token { bare } else { text };
        if text.is_empty() {
            return Err("is empty; write the secret into it");
        }
        if text.contains(['\n', '\r']) {
            return Err("has more than one line; it must hold the secret and nothing else");
        }
        match self {
            Self::Key if text.starts_with(BYTE_ORDER_MARK) => {
                return Err("begins with a byte order mark; save the key without one");
            }
            Self::Key if text.contains(is_blank) => {
                return Err("has white space in it, which no key has; it must hold the key and nothing else");
            }
            Self::Key if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                return Err("has characters that no key has; copy the key again, without what is around it");
            }
            Self::Key => {}
            _ if text.contains(char::is_control) => {
                return Err("has control characters in it; it must hold the secret and nothing else");
            }
            Self::Password if text != bare => {
                tracing::warn!(
                    %place,
                    "a password has white space or a byte order mark at an end; remove it unless it is meant"
                );
            }
            Self::Password | Self::Token => {}
        }
        Ok(text)
    }
}

/// What some editors write at the beginning of a file.
pub(super) const BYTE_ORDER_MARK: char = '\u{feff}';

/// White space, and what looks like it or like nothing at all.
fn is_blank(character: char) -> bool {
    character.is_whitespace()
        || ('\u{200b}'..='\u{200f}').contains(&character)
        || character == BYTE_ORDER_MARK
}

/// What a file said, and by what to tell that it has changed since.
#[derive(Clone)]
struct Read {
    /// Of the file as it was looked at last.
    stamp: Stamp,
    /// What it held when it last was a secret.
    value: SecretString,
    /// Whether it answered last time.
    answers: bool,
}

/// Differs after a file is written or replaced: the inode number, the time of change (which, unlike the time of
/// modification, no tool can set) in seconds and nanoseconds, the length.
pub(super) type Stamp = (u64, i64, i64, u64);

/// So long is waited for the file of a secret that is known, once until it answers again: whoever asks is one of the few
/// threads of the runtime.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);

/// No credential comes near this; it keeps a wrong path from filling the memory.
const LONGEST: u64 = 64 * 1024;

impl Secret {
    /// A secret that stands in the configuration or in an environment variable, which is its `place`.
    ///
    /// Errors: it cannot be a secret of this sort; the message does not repeat it.
    pub fn from_value(sort: Sort, text: &str, place: String) -> Result<Self, &'static str> {
        let value = SecretString::from(sort.read(text, &place)?);
        Ok(Self(Arc::new(Origin::Value { value, place })))
    }

    /// A secret in a file; nothing is read yet.
    pub fn from_file(sort: Sort, path: &Path) -> Self {
        Self(Arc::new(Origin::File { path: path.to_owned(), sort, last: Arc::default() }))
    }

    /// Where it comes from: a key of the configuration, an environment variable, a file.
    pub fn place(&self) -> String {
        match &*self.0 {
            Origin::Value { place, .. } => place.clone(),
            Origin::File { path, .. } => path.display().to_string(),
        }
    }

    /// The secret as it is now. A file is read again when it was written or replaced; one trailing newline is dropped.
    /// One that is there but is no secret any more (half written, for a start), or on a mount that does not answer, is
    /// warned of once, and what it held before stays in force.
    ///
    /// Errors: the file is not there; or it was never anything but unreadable, larger than 64 KiB, not UTF-8, or what no
    /// secret of its sort is. The message names the path and the cure, not the content.
    pub fn read(&self) -> io::Result<SecretString> {
        let (path, sort, last) = match &*self.0 {
            Origin::Value { value, .. } => return Ok(value.clone()),
            Origin::File { path, sort, last } => (path, *sort, last),
        };
        read_changed(path, sort, last).map_err(|error| with_cure(path, &error))
    }
}

/// What is wrong with the file at `path`, and what to do about it.
fn with_cure(path: &Path, error: &io::Error) -> io::Error {
    let cure = match error.kind() {
        io::ErrorKind::NotFound => "no such file; create it or correct the path".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "permission denied; let the user that runs the exporter read it".to_owned()
        }
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), format!("{}: {cure}", path.display()))
}

fn read_changed(path: &Path, sort: Sort, last: &Arc<Mutex<Option<Read>>>) -> io::Result<SecretString> {
    let patience = if lock(last).is_some() { SHORT_PATIENCE } else { PATIENCE };
    let read = {
        let (path, last) = (path.to_owned(), Arc::clone(last));
        move || {
            let known = lock(&last).clone();
            let (read, wrong) = look(&path, sort, known)?;
            if let Some(error) = wrong {
                warn(&path, &error);
            }
            let value = read.value.clone();
            *lock(&last) = Some(read);
            Ok(value)
        }
    };
    match read_within(path, patience, read) {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            let mut last = lock(last);
            let Some(read) = last.as_mut() else { return Err(error) };
            let (answered, value) = (std::mem::replace(&mut read.answers, false), read.value.clone());
            drop(last);
            if answered {
                warn(path, &error);
            }
            Ok(value)
        }
        outcome => outcome,
    }
}

fn lock(last: &Mutex<Option<Read>>) -> MutexGuard<'_, Option<Read>> {
    last.lock().unwrap_or_else(PoisonError::into_inner)
}

fn warn(path: &Path, error: &io::Error) {
    let error = with_cure(path, error);
    tracing::warn!(%error, "a secret's file cannot be used, what it held before stays in force");
}

/// What the file at `path` holds, or held when it was `known`: then with what is wrong with it now.
fn look(path: &Path, sort: Sort, known: Option<Read>) -> io::Result<(Read, Option<io::Error>)> {
    let metadata = std::fs::metadata(path)?;
    let mut stamp = stamp(&metadata);
    if let Some(read) = known.as_ref().filter(|read| read.stamp == stamp) {
        return Ok((Read { answers: true, ..read.clone() }, None));
    }
    match (content(path, sort, &metadata, &mut stamp), known) {
        (Ok(value), _) => Ok((Read { stamp, value, answers: true }, None)),
        (Err(error), Some(read)) if error.kind() != io::ErrorKind::NotFound => {
            Ok((Read { stamp, value: read.value, answers: true }, Some(error)))
        }
        (Err(error), _) => Err(error),
    }
}

pub(super) fn stamp(metadata: &Metadata) -> Stamp {
    (metadata.ino(), metadata.ctime(), metadata.ctime_nsec(), metadata.len())
}

/// What the file at `path` holds; `seen` becomes the stamp of what is read, even if the path was given to another file
/// a moment ago.
fn content(path: &Path, sort: Sort, metadata: &Metadata, seen: &mut Stamp) -> io::Result<SecretString> {
    // Opening a named pipe would wait for its writer.
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "is not a file; name the file that holds the secret",
        ));
    }
    let file = File::open(path)?;
    *seen = stamp(&file.metadata()?);
    let invalid = |message| io::Error::new(io::ErrorKind::InvalidData, message);
    let mut text = Zeroizing::new(String::new());
    let length = file.take(LONGEST + 1).read_to_string(&mut text);
    let length = length.map_err(|e| match e.kind() {
        io::ErrorKind::InvalidData => invalid("is not UTF-8 text; it must hold the secret and nothing else"),
        _ => e,
    })?;
    if length as u64 > LONGEST {
        return Err(invalid("is longer than 64 KiB; it must hold the secret and nothing else"));
    }
    let value = text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t));
    sort.read(value, &path.display()).map(SecretString::from).map_err(invalid)
}

/// The same value, or the same file.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        match (&*self.0, &*other.0) {
            (Origin::Value { value: a, .. }, Origin::Value { value: b, .. }) => {
                a.expose_secret() == b.expose_secret()
            }
            (Origin::File { path: a, .. }, Origin::File { path: b, .. }) => a == b,
            _ => false,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Origin::Value { place, .. } => write!(f, "Secret(from {place})"),
            Origin::File { path, .. } => write!(f, "Secret(from {})", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use secrecy::ExposeSecret as _;

    use super::*;

    fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, content).unwrap();
        (directory, path)
    }

    #[test]
    fn drops_one_trailing_newline() {
        for sort in [Sort::Key, Sort::Password, Sort::Token] {
            for content in ["key\n", "key\r\n", "key"] {
                let (_directory, path) = file(content.as_bytes());
                assert_eq!(Secret::from_file(sort, &path).read().unwrap().expose_secret(), "key");
            }
        }
    }

    #[test]
    fn what_stands_around_a_secret_is_refused_kept_or_stripped_by_its_sort() {
        let read = |sort, text: &str| {
            let (_directory, path) = file(text.as_bytes());
            let of_file = Secret::from_file(sort, &path).read();
            let of_value = Secret::from_value(sort, text, "here".to_owned());
            assert_eq!(of_file.is_ok(), of_value.is_ok(), "{text:?}");
            of_file.map(|secret| secret.expose_secret().to_owned())
        };
        for blank in [" ", "\u{a0}", "\u{feff}", "\u{200b}", "\u{200e}", "\u{2003}", "\u{3000}"] {
            for text in
                [format!("{blank}hunter2"), format!("hunter2{blank}"), format!("{blank}hunter2{blank}")]
            {
                let message = read(Sort::Key, &text).unwrap_err().to_string();
                assert!(!message.contains("hunter2") && message.contains("key"), "{message}");
                assert_eq!(read(Sort::Password, &text).unwrap(), text);
                assert_eq!(read(Sort::Token, &text).unwrap(), "hunter2");
            }
            assert!(read(Sort::Key, &format!("hun{blank}ter2")).is_err());
            assert!(read(Sort::Token, blank).is_err());
        }
        assert_eq!(read(Sort::Token, "hunter2 \t").unwrap(), "hunter2");
        // Lines around it are none of its own; a value of the configuration has none.
        let (_directory, path) = file(b"\nhunter2\n\n");
        assert_eq!(Secret::from_file(Sort::Token, &path).read().unwrap().expose_secret(), "hunter2");
        for text in ["sch\u{fc}ssel", "hunter2\u{2026}", "\u{201c}hunter2\u{201d}", "hunter\u{7f}2", "a\tb"] {
            assert!(read(Sort::Key, text).is_err(), "{text:?}");
        }
        assert_eq!(read(Sort::Password, "schl\u{fc}ssel").unwrap(), "schl\u{fc}ssel");
    }

    #[test]
    fn reads_a_replaced_file_again() {
        let (directory, path) = file(b"one");
        let secret = Secret::from_file(Sort::Key, &path);
        assert_eq!(secret.read().unwrap().expose_secret(), "one");
        let new = directory.path().join("new");
        fs::write(&new, "two").unwrap();
        fs::rename(new, path).unwrap();
        assert_eq!(secret.read().unwrap().expose_secret(), "two");
    }

    #[test]
    fn follows_the_link_that_kubernetes_swaps() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (version, content) in [("..one", "one"), ("..two", "two")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("key"), content).unwrap();
        }
        symlink("..one", at("..data")).unwrap();
        symlink("..data/key", at("key")).unwrap();
        let secret = Secret::from_file(Sort::Key, &at("key"));
        assert_eq!(secret.read().unwrap().expose_secret(), "one");
        symlink("..two", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert_eq!(secret.read().unwrap().expose_secret(), "two");
    }

    #[test]
    fn keeps_the_secret_while_its_file_is_half_written() {
        let (_directory, path) = file(b"one");
        let secret = Secret::from_file(Sort::Key, &path);
        secret.read().unwrap();
        for content in [&b""[..], b"\xff", b"tw\no"] {
            fs::write(&path, content).unwrap();
            assert_eq!(secret.read().unwrap().expose_secret(), "one", "{content:?}");
            assert_eq!(secret.read().unwrap().expose_secret(), "one", "{content:?}");
        }
        fs::write(&path, "two").unwrap();
        assert_eq!(secret.read().unwrap().expose_secret(), "two");
    }

    #[test]
    fn refuses_what_cannot_be_one_secret() {
        let long = vec![b'x'; 70_000];
        for content in [&b""[..], b"\n", b"a\nb\n", b"a\n\n", b"\xff\xfe", &long] {
            let (_directory, path) = file(content);
            let message = Secret::from_file(Sort::Key, &path).read().unwrap_err().to_string();
            assert!(message.starts_with(path.to_str().unwrap()), "{message}");
        }
    }

    #[test]
    fn refuses_a_directory_and_a_missing_file() {
        let (directory, path) = file(b"key");
        fs::remove_file(&path).unwrap();
        assert!(Secret::from_file(Sort::Key, &path).read().unwrap_err().to_string().contains("no such file"));
        assert!(
            Secret::from_file(Sort::Key, directory.path())
                .read()
                .unwrap_err()
                .to_string()
                .contains("is not a file")
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let (_directory, path) = file(b"hunter2");
        let from_file = Secret::from_file(Sort::Key, &path);
        from_file.read().unwrap();
        let shown =
            format!("{:?} {from_file:?}", Secret::from_value(Sort::Key, "hunter2", "here".to_owned()));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

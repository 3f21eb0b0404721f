//! The files of a source's `tls`: read whole and checked together, so that what was checked is what is in force.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::zeroize::Zeroizing;

use super::certificate::{self, Misfit};
use super::reading::{PATIENCE, read_within};
use super::secret;

/// A bundle of all public authorities has 250 KB; this keeps a wrong path from filling the memory.
const LONGEST: u64 = 4 * 1024 * 1024;

/// What to trust and what to show when connecting. Equal if the files are the same ones and hold the same.
#[derive(Clone, Default, PartialEq)]
pub struct TlsFiles {
    /// The authorities to trust instead of the system's.
    pub authorities: Option<PemFile>,
    /// A client certificate and its key.
    pub client: Option<(PemFile, PemFile)>,
}

/// A file in PEM form, and what it held when it was read.
#[derive(Clone, PartialEq)]
pub struct PemFile {
    path: PathBuf,
    content: Arc<Zeroizing<Vec<u8>>>,
}

impl PemFile {
    /// What it held, a key maybe.
    pub fn content(&self) -> &[u8] {
        &self.content
    }
}

impl TlsFiles {
    /// Reads the files that are given and checks them together. What is wrong goes to `note`, with the key that names
    /// the file.
    pub(super) fn read(
        authorities: Option<PathBuf>,
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
        mut note: impl FnMut(&'static str, String),
    ) -> Self {
        let mut pem = |name: &'static str, path: Option<PathBuf>, check: fn(&[u8]) -> Result<(), String>| {
            let path = path?;
            let read = read(&path).and_then(|content| check(&content).map(|()| content));
            let content =
                read.map_err(|message| note(name, format!("{}: {message}", path.display()))).ok()?;
            Some(PemFile { path, content: Arc::new(content) })
        };
        let authorities = pem("ca_file", authorities, |content| certificate::authorities(content).map(drop));
        let certificate = pem("cert_file", certificate, |content| certificate::chain(content).map(drop));
        let key = pem("key_file", key, |content| certificate::key(content).map(drop));
        let client = certificate.zip(key);
        if let Some((certificate, key)) = &client
            && let (Ok(chain), Ok(private_key)) =
                (certificate::chain(certificate.content()), certificate::key(key.content()))
        {
            match certificate::fit(&chain, &private_key) {
                Ok(()) => {}
                Err(Misfit::Certificate(message)) => {
                    note("cert_file", format!("{}: {message}", certificate.path.display()));
                }
                Err(Misfit::Key(message)) => note("key_file", format!("{}: {message}", key.path.display())),
            }
        }
        Self { authorities, client }
    }

    /// The same files as they are now.
    ///
    /// Errors: the first thing that is wrong, with its key.
    pub fn reread(&self) -> Result<Self, String> {
        let path = |file: &PemFile| file.path.clone();
        let (certificate, key) = self.client.as_ref().map(|(c, k)| (path(c), path(k))).unzip();
        let mut problem = None;
        let read = Self::read(self.authorities.as_ref().map(path), certificate, key, |key, message| {
            problem.get_or_insert(format!("tls.{key}: {message}"));
        });
        problem.map_or(Ok(read), Err)
    }

    /// Where they are.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let client = self.client.iter().flat_map(|(certificate, key)| [certificate, key]);
        self.authorities.iter().chain(client).map(|file| file.path.as_path())
    }
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.paths()).finish()
    }
}

/// By what to tell that a file has changed since; `None` if there is none.
pub fn stamp(path: &Path) -> Option<secret::Stamp> {
    fs::metadata(path).ok().map(|metadata| secret::stamp(&metadata))
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let file = path.to_owned();
    read_within(path, PATIENCE, move || Ok(read_now(&file))).unwrap_or_else(|error| Err(error.to_string()))
}

fn read_now(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let words = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "no such file; create it or correct the path".to_owned(),
        kind => format!("cannot be read ({kind}); check its owner and mode"),
    };
    // Opening a named pipe would wait for its writer.
    if !fs::metadata(path).map_err(words)?.is_file() {
        return Err("is not a file; name a PEM file".to_owned());
    }
    let mut content = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(words)?;
    file.take(LONGEST + 1).read_to_end(&mut content).map_err(words)?;
    if content.len() as u64 > LONGEST {
        return Err("is larger than 4 MiB; name a PEM file".to_owned());
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn pem(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/web").join(name)
    }

    /// All that is wrong with these files.
    fn problems(
        authorities: Option<PathBuf>,
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        TlsFiles::read(authorities, certificate, key, |key, message| {
            problems.push(format!("{key} {}", message.rsplit('/').next().unwrap()));
        });
        problems
    }

    #[test]
    fn takes_what_goes_together() {
        let none: [&str; 0] = [];
        let client = (Some(pem("client.pem")), Some(pem("client.key")));
        assert_eq!(problems(Some(pem("authority.pem")), client.0, client.1), none);
        assert_eq!(problems(None, None, None), none);
    }

    #[test]
    fn says_of_each_file_what_is_wrong_with_it() {
        let told = problems(Some(pem("client.key")), Some(pem("no-such.pem")), Some(pem("client.pem")));
        let expected = [
            "ca_file client.key: holds a private key and no certificate; perhaps the two files are interchanged",
            "cert_file no-such.pem: no such file; create it or correct the path",
            "key_file client.pem: holds a certificate and no private key; perhaps the two files are interchanged",
        ];
        assert_eq!(told, expected);
        let told = problems(None, Some(pem("client.pem")), Some(pem("server.key")));
        assert!(told[0].starts_with("key_file server.key: is not the key of the certificate"), "{told:?}");
    }

    #[test]
    fn a_named_pipe_is_refused_and_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert_eq!(problems(Some(pipe), None, None), ["ca_file pipe: is not a file; name a PEM file"]);
    }

    #[test]
    fn the_same_files_with_other_content_are_not_equal() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        fs::copy(pem("authority.pem"), &path).unwrap();
        let read = TlsFiles::read(Some(path.clone()), None, None, |_, message| panic!("{message}"));
        assert_eq!(read.reread(), Ok(read.clone()));
        fs::copy(pem("stranger.pem"), &path).unwrap();
        assert_ne!(read.reread(), Ok(read.clone()));
        fs::write(&path, "garbage").unwrap();
        assert!(read.reread().unwrap_err().starts_with("tls.ca_file: "));
    }
}

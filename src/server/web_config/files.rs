//! The files that a web configuration is made of, and whether one of them has changed since.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config::reading::{PATIENCE, read_within};

/// A bundle of all public authorities has 250 KB; this keeps a wrong path from filling the memory.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Differs after a file is written or replaced, be it through a symbolic link further up as in Kubernetes: the inode
/// number, the time of change (which, unlike the time of modification, no tool can set), the length.
type Stamp = (u64, i64, i64, u64);

/// Files that were looked for, with their stamps; `None` if there was no file.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Files(Vec<(PathBuf, Option<Stamp>)>);

impl Files {
    /// Reads a file and keeps its stamp.
    ///
    /// Errors: the message names the path and the cure.
    pub(super) fn read(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        // Before it is read: what is written meanwhile shows as a change.
        self.0.push((path.to_owned(), stamp(path)));
        read(path).map_err(|e| {
            let path = path.display();
            match e.kind() {
                io::ErrorKind::NotFound => format!("{path}: no such file; create it or correct the path"),
                io::ErrorKind::PermissionDenied => {
                    format!("{path}: permission denied; let the user that runs the exporter read it")
                }
                _ => format!("{path}: {e}"),
            }
        })
    }

    /// The same files with their stamps of now.
    pub(super) fn now(&self) -> Self {
        Self(self.0.iter().map(|(path, _)| (path.clone(), stamp(path))).collect())
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = path.to_owned();
    read_within(path, PATIENCE, move || read_now(&file))
}

fn read_now(path: &Path) -> io::Result<Vec<u8>> {
    let invalid = |message| io::Error::new(io::ErrorKind::InvalidData, message);
    // Opening a named pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(invalid("is not a file; name a file"));
    }
    let mut content = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST {
        return Err(invalid("is larger than 4 MiB; name the right file"));
    }
    Ok(content)
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = path.to_owned();
    let metadata = read_within(path, PATIENCE, move || fs::metadata(file)).ok().filter(Metadata::is_file)?;
    Some((metadata.ino(), metadata.ctime(), metadata.ctime_nsec(), metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_shows() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        // As Kubernetes mounts a secret.
        fs::create_dir(path("1")).unwrap();
        fs::create_dir(path("2")).unwrap();
        fs::write(path("1/tls.crt"), "same").unwrap();
        fs::write(path("2/tls.crt"), "same").unwrap();
        std::os::unix::fs::symlink("1", path("..data")).unwrap();
        std::os::unix::fs::symlink("..data/tls.crt", path("tls.crt")).unwrap();
        let mut files = Files::default();
        files.read(&path("tls.crt")).unwrap();
        files.read(&path("missing")).unwrap_err();
        assert!(files == files.now());
        fs::write(path("missing"), "").unwrap();
        assert!(files != files.now());
        fs::remove_file(path("missing")).unwrap();
        assert!(files == files.now());
        std::os::unix::fs::symlink("2", path("..new")).unwrap();
        fs::rename(path("..new"), path("..data")).unwrap();
        assert!(files != files.now());
    }

    #[test]
    fn what_is_no_file_is_refused_with_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files::default();
        let error = files.read(directory.path()).unwrap_err();
        assert_eq!(error, format!("{}: is not a file; name a file", directory.path().display()));
    }
}

//! The files: read whole, replaced in one step.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::Duration;

use tempfile::{Builder, NamedTempFile};

use super::StateError;
use super::decode::decode;
use super::identity::Identity;
use crate::config::reading::read_within;
use crate::inventory::SourceName;
use crate::scheduler::Memory;

/// A larger file is none of ours: five million tags take less.
const LONGEST: u64 = 1 << 29;

/// So long is waited for a snapshot; one of a million series is read in a second.
const READ_PATIENCE: Duration = Duration::from_secs(10);

/// How the name of a file ends that is being written.
const UNFINISHED: &str = ".snapshot.tmp";

/// The name of a source's snapshot.
pub(super) fn snapshot(source: &SourceName) -> String {
    format!("{source}.snapshot")
}

/// What the snapshot says; `None` if there is none.
pub(super) fn read(path: &Path, identity: &Identity) -> Result<Option<Memory>, StateError> {
    let bytes = read_bytes(path, LONGEST)?;
    Ok(bytes.map(|bytes| decode(&bytes, identity)).transpose()?)
}

/// What a file of at most `longest` bytes holds; `None` if there is none.
pub(super) fn read_bytes(path: &Path, longest: u64) -> io::Result<Option<Vec<u8>>> {
    let file = path.to_owned();
    read_within(path, READ_PATIENCE, move || read_whole(&file, longest))
}

fn read_whole(path: &Path, longest: u64) -> io::Result<Option<Vec<u8>>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Opening a named pipe would wait for its writer.
    if !metadata.is_file() || metadata.len() > longest {
        let message = "is no file, or larger than any that was written";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(longest).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Puts `bytes` in the place of the file `name`: whoever reads it, and be it after the machine lost its power,
/// finds the old one or the new one.
pub(super) fn replace(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    create(directory)?;
    let mut file = unfinished(directory, name)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(directory.join(name)).map_err(|error| error.error)?;
    // The new name is on the disk when its directory is.
    File::open(directory)?.sync_all()
}

/// Makes the directory, tries whether files can be made there, and clears away what a process that was killed left.
pub(super) fn prepare(directory: &Path) -> io::Result<()> {
    let path = directory.to_owned();
    read_within(&directory.join("test"), READ_PATIENCE, move || try_out(&path))
}

fn try_out(directory: &Path) -> io::Result<()> {
    create(directory)?;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') && name.ends_with(UNFINISHED) {
            fs::remove_file(&path)?;
        }
    }
    unfinished(directory, "test")?.close()
}

/// What is in there is for nobody else.
fn create(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// A new file of mode 0600, removed when dropped.
fn unfinished(directory: &Path, name: &str) -> io::Result<NamedTempFile> {
    Builder::new().prefix(&format!(".{name}-")).suffix(UNFINISHED).tempfile_in(directory)
}

//! The refused credentials, kept on disk so that a process that is restarted does not lock its key.
//!
//! A text file of three numbers a line: sixteen bits of the credential's hash, refusals in a row, nanoseconds since
//! 1970. What cannot be read costs no more than one attempt too early.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use super::file;
use crate::client::Refused;
use crate::inventory::Timestamp;

/// The file's name in the directory of the snapshots.
const NAME: &str = "refusals";
/// More than any configuration has credentials.
const MOST: usize = 1000;

/// What an earlier process was refused.
pub(super) fn read(directory: &Path) -> Vec<Refused> {
    let bytes = file::read_bytes(&directory.join(NAME), 64 * 1024).ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.lines().take(MOST).filter_map(parse).collect()
}

/// Writes what is refused; no file is left where nothing is.
pub(super) fn write(directory: &Path, refused: &[Refused]) -> io::Result<()> {
    if refused.is_empty() {
        return match fs::remove_file(directory.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    let mut text = String::new();
    for Refused { credential, refusals, time } in refused {
        writeln!(text, "{credential} {refusals} {}", time.nanoseconds()).map_err(io::Error::other)?;
    }
    file::replace(directory, NAME, text.as_bytes())
}

fn parse(line: &str) -> Option<Refused> {
    let mut numbers = line.split(' ');
    let mut next = || numbers.next();
    let (credential, refusals) = (next()?.parse().ok()?, next()?.parse().ok()?);
    let time = Timestamp::from_nanoseconds(next()?.parse().ok()?)?;
    (refusals > 0 && next().is_none()).then_some(Refused { credential, refusals, time })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(credential: u16) -> Refused {
        let time = Timestamp::from_milliseconds(1_700_000_000_123).unwrap();
        Refused { credential, refusals: 2, time }
    }

    #[test]
    fn reads_what_was_written_and_leaves_no_file_where_nothing_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()), []);
        write(directory.path(), &[refused(1), refused(65535)]).unwrap();
        assert_eq!(read(directory.path()), [refused(1), refused(65535)]);
        write(directory.path(), &[]).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        write(directory.path(), &[]).unwrap();
    }

    #[test]
    fn takes_from_a_spoiled_file_what_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let text = b"1 2 1700000000123000000\n70000 1 5\n1 0 5\n1 1\n1 1 5 5\n\xff\n2 2 1700000000123000000";
        fs::write(directory.path().join(NAME), text).unwrap();
        assert_eq!(read(directory.path()), [refused(1), refused(2)]);
    }

    proptest! {
        #[test]
        fn what_is_taken_from_any_line_is_written_as_it_stands(line in "[0-9 +-]{0,40}|\\PC*") {
            if let Some(refused) = parse(&line) {
                let directory = tempfile::tempdir().unwrap();
                write(directory.path(), std::slice::from_ref(&refused)).unwrap();
                prop_assert_eq!(read(directory.path()), [refused]);
            }
        }
    }
}

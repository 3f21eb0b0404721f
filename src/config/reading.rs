//! Files that may not answer: on a network mount whose server is gone, whoever looks at one waits for ever.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// So long is waited for a file of which nothing is known yet.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// More directories that do not answer at one time are not looked at: each costs a thread.
const MOST: usize = 64;

/// The directories of which a file is being read, and since when.
static BUSY: Mutex<BTreeMap<PathBuf, Instant>> = Mutex::new(BTreeMap::new());
static FREE: Condvar = Condvar::new();

/// Does what `read` says with the file at `path` on a thread of its own, and waits for `patience` at most. A directory
/// is left alone while it owes an answer: it costs one thread, however often it is asked for.
///
/// Errors: those of `read`; [`io::ErrorKind::TimedOut`] if there is no answer in time, or none since the last try.
pub fn read_within<T: Send + 'static>(
    path: &Path,
    patience: Duration,
    read: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let turn = Turn::take(path.parent().unwrap_or(path), patience).ok_or_else(no_answer)?;
    let (answer, answered) = mpsc::sync_channel(1);
    Builder::new().name("file".to_owned()).spawn(move || {
        let outcome = read();
        drop(turn);
        // Nobody may wait any more.
        let _ = answer.send(outcome);
    })?;
    answered.recv_timeout(patience).unwrap_or_else(|_| Err(no_answer()))
}

/// What the file at `path` holds.
///
/// Errors: as [`read_within`].
pub fn read_file_within(path: &Path) -> io::Result<Vec<u8>> {
    let file = path.to_owned();
    read_within(path, PATIENCE, move || std::fs::read(file))
}

fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "does not answer; see to the disk or network mount that it is on")
}

/// The right to read files of a directory.
struct Turn(PathBuf);

impl Turn {
    /// Waits for the one who reads there now, but not for longer than anybody may take.
    fn take(directory: &Path, patience: Duration) -> Option<Self> {
        // Nothing under the lock can leave a half-made value behind.
        let mut busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(since) = busy.get(directory) {
            let left = patience.checked_sub(since.elapsed())?;
            busy = FREE.wait_timeout(busy, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if busy.len() >= MOST {
            return None;
        }
        busy.insert(directory.to_owned(), Instant::now());
        Some(Self(directory.to_owned()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        BUSY.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
        FREE.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn a_directory_that_does_not_answer_costs_one_thread_until_it_does() {
        let path = Path::new("/dead-mount/key");
        let (release, released) = mpsc::channel::<()>();
        let started = Arc::new(AtomicU32::new(0));
        let count = |started: &Arc<AtomicU32>| {
            let started = Arc::clone(started);
            move || {
                started.fetch_add(1, Ordering::Relaxed);
                Ok("answer")
            }
        };
        let first = count(&started);
        let hangs = move || {
            let _ = released.recv();
            first()
        };
        assert_eq!(read_within(path, SHORT, hangs).unwrap_err().kind(), io::ErrorKind::TimedOut);
        for _ in 0..100 {
            let other = Path::new("/dead-mount/other");
            let error = read_within(other, SHORT, count(&started)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        assert_eq!(started.load(Ordering::Relaxed), 0);
        assert_eq!(read_within(Path::new("/other/key"), PATIENCE, count(&started)).unwrap(), "answer");
        release.send(()).unwrap();
        // The one that hung has its turn to the end first.
        assert_eq!(read_within(path, PATIENCE, count(&started)).unwrap(), "answer");
        assert_eq!(started.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn errors_are_those_of_the_file() {
        let error = read_within(Path::new("/x/y"), PATIENCE, || std::fs::read("/nonexistent/file"));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

//! What is to be written to stderr, kept until a thread of its own has written it: whoever reads the log may stand
//! still, and nothing else may.
//!
//! `tracing-appender` has such a thread too. It is not used because it prints to stdout when its queue is full at the
//! end, counts lines instead of bytes, and waits for a second at most.

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, sleep};
use std::time::Duration;

use crate::telemetry::self_metrics::LOG_LINES_DROPPED;

/// Bytes that wait to be written: some thousand lines. As much again may be under way.
const MOST_WAITING: usize = 1 << 20;
/// Between two tries to write to a pipe that is full and that somebody has made not to block.
const PAUSE: Duration = Duration::from_millis(10);

static QUEUE: Queue = Queue {
    state: Mutex::new(State { lines: Vec::new(), runs: false, writes: false, dropped: 0 }),
    changed: Condvar::new(),
};

/// Has `lines` written, with their newlines, unless too many others wait.
pub(super) fn push(lines: &[u8]) {
    QUEUE.push(lines);
}

/// Waits until all is written, for `limit` at most.
pub(super) fn wait(limit: Duration) {
    let state = QUEUE.state();
    // What is not written then is lost, and nobody is left to be told.
    let _ = QUEUE.changed.wait_timeout_while(state, limit, |state| state.writes || !state.lines.is_empty());
}

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    lines: Vec<u8>,
    /// Whether there is the thread that writes.
    runs: bool,
    /// Whether it is writing.
    writes: bool,
    /// Lines that were dropped since it was last told.
    dropped: u64,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can leave a half-made value behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&'static self, lines: &[u8]) {
        let mut state = self.state();
        if !state.runs {
            state.runs = Builder::new().name("log".to_owned()).spawn(|| self.write()).is_ok();
        }
        if !state.runs {
            // Without threads the program is about to say so and to end.
            drop(state);
            return write(lines);
        }
        // Something longer than the queue need not be lost while nothing else waits.
        if !state.lines.is_empty() && state.lines.len() + lines.len() > MOST_WAITING {
            state.dropped += 1;
            LOG_LINES_DROPPED.inc();
            return;
        }
        state.lines.extend_from_slice(lines);
        self.changed.notify_all();
    }

    /// Writes what comes, for ever.
    fn write(&self) {
        loop {
            let mut state = self.state();
            state.writes = false;
            self.changed.notify_all();
            while state.lines.is_empty() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.writes = true;
            let (lines, dropped) = (std::mem::take(&mut state.lines), std::mem::take(&mut state.dropped));
            drop(state);
            if dropped > 0 {
                // Its place is after `lines`, which waited when it began.
                tracing::warn!(
                    lines_dropped = dropped,
                    "whoever reads the log stood still, lines were dropped"
                );
            }
            write(&lines);
        }
    }
}

fn write(text: &[u8]) {
    // After an error nobody will ever read it.
    let _ = write_whole(&mut io::stderr(), text);
}

/// Writes all of `text`, to a pipe that is full and that somebody has made not to block, too.
///
/// Errors: as of any write.
pub fn write_whole(to: &mut impl Write, mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        match to.write(text) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => text = &text[length..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

//! The log: one line per event on stderr, as logfmt or JSON. Whoever writes a line never waits for whoever reads it.

mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::panic::{self, PanicHookInfo};
use std::time::Duration;

use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use queue::write_whole;

/// The process waits so long for the log at its end: with what the server takes, less than the five seconds that it has.
const LAST_WAIT: Duration = Duration::from_millis(1_500);

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `ts=… level=info message=… key=value`
    Logfmt,
    /// One JSON object per line.
    Json,
}

/// Starts logging to stderr. Only this program's own events below `info`: what HTTP libraries say at `debug` and
/// `trace` can hold headers, and headers hold secrets. Panics become lines, too. A second call changes nothing.
pub fn start(level: Level, format: Format) {
    let filter =
        Targets::new().with_default(level.min(Level::WARN)).with_target(env!("CARGO_CRATE_NAME"), level);
    let registry = tracing_subscriber::registry();
    let _ = match format {
        Format::Logfmt => {
            let layer = tracing_logfmt::builder().layer().with_writer(|| Line);
            registry.with(layer.with_filter(filter)).try_init()
        }
        Format::Json => {
            let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(|| Line);
            registry.with(layer.with_filter(filter)).try_init()
        }
    };
    panic::set_hook(Box::new(log_panic));
}

/// Prints a text on stderr that is no event: what is wrong with the command line or the configuration.
pub fn say(text: &str) {
    queue::push(format!("{}\n", text.trim_end()).as_bytes());
}

/// Waits until all that was said is written. A reader that stands still is not waited for longer than the end of the
/// process may take.
pub fn finish() {
    queue::wait(LAST_WAIT);
}

/// Of a writer of events: each gives it one whole line.
struct Line;

impl io::Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        queue::push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the library prints by itself would wait for the reader of stderr.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let error = panic.payload_as_str().unwrap_or_default();
    let at = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(error, at, backtrace, "panicked; this is a defect of the exporter");
}

/// An error with all its causes, joined by `: `. The log's own formats print only the first.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // A library may repeat its cause in its own message.
        let message = error.to_string();
        if !text.ends_with(&message) {
            write!(text, ": {message}").expect("writing to a string cannot fail");
        }
        cause = error.source();
    }
    text
}

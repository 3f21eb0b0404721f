//! The log: one line per event on stderr, as logfmt or JSON.

use std::error::Error;
use std::fmt::Write as _;
use std::io;

use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `ts=… level=info message=… key=value`
    Logfmt,
    /// One JSON object per line.
    Json,
}

/// Starts logging to stderr. Only this program's own events below `info`: what HTTP libraries say at `debug` and
/// `trace` can hold headers, and headers hold secrets. A second call changes nothing.
pub fn start(level: Level, format: Format) {
    let filter =
        Targets::new().with_default(level.min(Level::WARN)).with_target(env!("CARGO_CRATE_NAME"), level);
    let registry = tracing_subscriber::registry();
    let _ = match format {
        Format::Logfmt => {
            let layer = tracing_logfmt::builder().layer().with_writer(io::stderr);
            registry.with(layer.with_filter(filter)).try_init()
        }
        Format::Json => {
            let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(io::stderr);
            registry.with(layer.with_filter(filter)).try_init()
        }
    };
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

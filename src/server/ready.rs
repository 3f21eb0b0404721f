//! Whether traffic may come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::exposition::Sources;
use crate::inventory::SourceName;

/// Readiness comes at the latest so long after the start: a cloud that hangs must not keep the exporter, which
/// would tell of it, out of service.
const LATEST: Duration = Duration::from_mins(1);

/// Ready once every source's list of repositories was tried, and from then on for ever.
pub struct Readiness {
    started: Instant,
    reached: AtomicBool,
}

impl Readiness {
    /// Not ready yet, `started` being when the process started.
    pub fn new(started: Instant) -> Self {
        Self { started, reached: AtomicBool::new(false) }
    }

    /// The sources that readiness waits for; none = ready.
    pub fn awaited(&self, sources: &Sources, now: Instant) -> Vec<SourceName> {
        if self.reached.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let late = now.saturating_duration_since(self.started) >= LATEST;
        let awaited: Vec<_> = sources
            .iter()
            .filter(|(_, source)| !late && !source.states.borrow().status.tried)
            .map(|(name, _)| name.clone())
            .collect();
        if awaited.is_empty() {
            self.reached.store(true, Ordering::Relaxed);
        }
        awaited
    }
}

//! What a source publishes: its inventory for `/metrics`, its status for people.

use std::sync::Arc;

use crate::inventory::{Inventory, Timestamp};
use crate::telemetry::{Collector, Reason};

/// What a source publishes.
#[derive(Clone, Debug)]
pub struct SourceState {
    /// What the source said last.
    pub inventory: Arc<Inventory>,
    /// How its polls go.
    pub status: SourceStatus,
}

/// How a source's polls go, for the page `/` and for readiness.
#[derive(Clone, Debug)]
pub struct SourceStatus {
    /// Whether the list of repositories was tried at least once.
    pub tried: bool,
    /// Whether a poll is under way.
    pub polling: bool,
    /// When the next poll starts, or should have started.
    pub next_poll: Option<Timestamp>,
    /// Repositories whose tags are still to be read.
    pub tags_pending: usize,
    /// One per collector of the source, in the order of the polls; the list of repositories comes first.
    pub collectors: Vec<CollectorStatus>,
}

/// How one collector of a source does.
#[derive(Clone, Debug)]
pub struct CollectorStatus {
    /// Which one.
    pub collector: Collector,
    /// When it last succeeded.
    pub last_success: Option<Timestamp>,
    /// Its last failure, if it failed since it last succeeded.
    pub failure: Option<Failure>,
    /// The total that the API stated minus the rows that it listed, at the last success.
    pub mismatch: i64,
}

/// A collector's failure in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When.
    pub time: Timestamp,
    /// The word of the closed set.
    pub reason: Reason,
    /// The error with all its causes.
    pub message: String,
    /// When a refused credential may be tried again.
    pub next_attempt: Option<Timestamp>,
}

impl SourceStatus {
    /// The status of a source that did nothing yet.
    pub fn new(collectors: &[Collector]) -> Self {
        let status =
            |&collector| CollectorStatus { collector, last_success: None, failure: None, mismatch: 0 };
        let collectors = collectors.iter().map(status).collect();
        Self { tried: false, polling: false, next_poll: None, tags_pending: 0, collectors }
    }

    /// Whether the source has this collector.
    pub fn has(&self, collector: Collector) -> bool {
        self.collectors.iter().any(|c| c.collector == collector)
    }

    /// The status of a collector that the source has.
    pub(super) fn of(&mut self, collector: Collector) -> &mut CollectorStatus {
        let status = self.collectors.iter_mut().find(|c| c.collector == collector);
        status.expect("only the collectors that the source was made with report to it")
    }
}

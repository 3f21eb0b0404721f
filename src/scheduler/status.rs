//! What a source publishes: its inventory for `/metrics`, its status for people.

use std::sync::Arc;
use std::time::SystemTime;

use crate::client::ApiError;
use crate::inventory::{Inventory, Timestamp};
use crate::telemetry::logging::chain;
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
    /// Repositories whose tags could not be read at the last try.
    pub tags_failing: usize,
    /// The lists of repositories that could not be read at the last try, where there are several; by name.
    pub lists_down: Arc<[ListDown]>,
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
    /// The reasons that were warned of since it last succeeded.
    pub(super) told: Vec<Reason>,
}

/// One list of several that could not be read at the last try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListDown {
    /// The organization or watched repository.
    pub name: Box<str>,
    /// When it was last read.
    pub last_success: Option<Timestamp>,
    /// Why it could not be read.
    pub failure: Failure,
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

impl CollectorStatus {
    /// The status of a collector that did nothing yet.
    pub fn new(collector: Collector) -> Self {
        Self { collector, last_success: None, failure: None, mismatch: 0, told: Vec::new() }
    }
}

impl Failure {
    /// What came of a call, just now.
    pub(super) fn new(error: &ApiError) -> Self {
        let (time, next_attempt) = (SystemTime::now().into(), error.next_attempt());
        Self { time, reason: error.reason(), message: chain(error), next_attempt }
    }
}

impl SourceStatus {
    /// The status of a source that did nothing yet.
    pub fn new(collectors: &[Collector]) -> Self {
        let collectors = collectors.iter().copied().map(CollectorStatus::new).collect();
        Self {
            tried: false,
            polling: false,
            next_poll: None,
            tags_pending: 0,
            tags_failing: 0,
            lists_down: Arc::default(),
            collectors,
        }
    }

    /// Keeps what is known of these collectors and nothing of others.
    pub(super) fn keep(&mut self, collectors: &[Collector]) {
        let before = std::mem::replace(&mut self.collectors, Self::new(collectors).collectors);
        for known in before {
            if let Some(status) = self.collectors.iter_mut().find(|c| c.collector == known.collector) {
                *status = known;
            }
        }
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

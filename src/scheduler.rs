//! One task per source: when to poll, what to keep after a failure, when to publish and when to withdraw.

use std::sync::Arc;

use crate::inventory::{Inventory, Timestamp};
use crate::telemetry::{Collector, Reason};

/// What a source publishes: its inventory for `/metrics`, its status for people.
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
    pub next_poll: Timestamp,
    /// Repositories whose tags are still to be read.
    pub tags_pending: usize,
    /// One per collector of the source, in the order of the polls.
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
}

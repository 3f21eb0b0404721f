//! The part of the exporter's own metrics that speaks of one source.

use std::sync::Arc;
use std::time::Duration;

use super::{Families, LEVELS, seconds};
use crate::inventory::{SourceName, Timestamp};
use crate::telemetry::{Collector, Reason, UNREADABLE_FIELDS};

/// The metrics of one source. Cloning shares them.
#[derive(Clone)]
pub struct SourceMetrics {
    families: Arc<Families>,
    source: SourceName,
}

impl SourceMetrics {
    pub(super) fn new(families: Arc<Families>, source: SourceName) -> Self {
        Self { families, source }
    }

    /// What is known of a source with these collectors before it does anything: every series whose labels are known
    /// is there, at 0 unless it has counted already; a collector that it no longer has loses its series.
    pub fn configure(&self, collectors: &[Collector], interval: Duration) {
        let f = &*self.families;
        let source = self.name();
        f.poll_interval.with_label_values(&[source]).set(interval.as_secs_f64());
        for gone in Collector::ALL.into_iter().filter(|collector| !collectors.contains(collector)) {
            f.forget_collector(&self.source, gone);
        }
        for collector in collectors {
            let labels = [source, collector.as_str()];
            f.polls.with_label_values(&labels);
            for reason in Reason::ALL {
                f.poll_failures.with_label_values(&[source, collector.as_str(), reason.as_str()]);
            }
            if *collector == Collector::Tags {
                f.tag_listings.with_label_values(&[source]);
                f.tag_listings_skipped.with_label_values(&[source]);
                f.tag_listings_pending.with_label_values(&[source]);
                f.tag_listings_failing.with_label_values(&[source]);
                for reason in Reason::ALL {
                    f.tag_listing_failures.with_label_values(&[source, reason.as_str()]);
                }
            }
        }
        f.api_throttled.with_label_values(&[source]);
        f.api_wait.with_label_values(&[source]);
        f.duplicates.with_label_values(&[source]);
        for field in UNREADABLE_FIELDS {
            f.unreadable_values.with_label_values(&[source, field]);
        }
    }

    /// Counts one API request: its status, or `None` where no answer came.
    pub fn request(&self, operation: &str, status: Option<u16>, elapsed: Duration) {
        let code = status.map_or_else(|| "error".to_owned(), |s| s.to_string());
        self.families.api_requests.with_label_values(&[self.name(), operation, &code]).inc();
        let seconds = elapsed.as_secs_f64();
        self.families.api_request_duration.with_label_values(&[self.name(), operation]).observe(seconds);
    }

    /// Has the retries of these operations counted from 0.
    pub fn operations(&self, operations: &[&str]) {
        for operation in operations {
            self.families.api_retries.with_label_values(&[self.name(), operation]);
        }
    }

    /// Counts a request that is sent again.
    pub fn retry(&self, operation: &str) {
        self.families.api_retries.with_label_values(&[self.name(), operation]).inc();
    }

    /// Counts an answer that said there were too many requests.
    pub fn throttled(&self) {
        self.families.api_throttled.with_label_values(&[self.name()]).inc();
    }

    /// Adds time that a request waited before it was sent.
    pub fn waited(&self, time: Duration) {
        self.families.api_wait.with_label_values(&[self.name()]).inc_by(time.as_secs_f64());
    }

    /// When the credential in use expires; `None` where that is not known.
    pub fn credentials_expiry(&self, expiry: Option<Timestamp>) {
        match expiry {
            Some(time) => {
                self.families.credentials_expiry.with_label_values(&[self.name()]).set(seconds(time));
            }
            None => drop(self.families.credentials_expiry.remove_label_values(&[self.name()])),
        }
    }

    /// This machine's clock minus the API's, in seconds.
    pub fn clock_skew(&self, seconds: f64) {
        self.families.clock_skew.with_label_values(&[self.name()]).set(seconds);
    }

    /// Counts a finished poll of one collector.
    pub fn poll(&self, collector: Collector, outcome: Result<(), Reason>, elapsed: Duration) {
        let labels = [self.name(), collector.as_str()];
        self.families.polls.with_label_values(&labels).inc();
        self.families.poll_duration.with_label_values(&labels).set(elapsed.as_secs_f64());
        if let Err(reason) = outcome {
            self.families.poll_failures.with_label_values(&[labels[0], labels[1], reason.as_str()]).inc();
        }
    }

    /// When a collector last succeeded.
    pub fn last_success(&self, collector: Collector, time: Timestamp) {
        let labels = [self.name(), collector.as_str()];
        self.families.poll_last_success.with_label_values(&labels).set(seconds(time));
    }

    /// When an organization's own listing last succeeded; `None` when there is no such organization any more.
    pub fn organization_last_success(&self, organization: &str, time: Option<Timestamp>) {
        let (family, labels) = (&self.families.organization_last_success, [self.name(), organization]);
        match time {
            Some(time) => family.with_label_values(&labels).set(seconds(time)),
            None => drop(family.remove_label_values(&labels)),
        }
    }

    /// The stated total minus the rows listed.
    pub fn total_mismatch(&self, collector: Collector, difference: i64) {
        let labels = [self.name(), collector.as_str()];
        self.families.listing_total_mismatch.with_label_values(&labels).set(difference);
    }

    /// Counts rows that a listing held more than once.
    pub fn duplicates(&self, rows: u64) {
        self.families.duplicates.with_label_values(&[self.name()]).inc_by(rows);
    }

    /// Counts values of an answer that could not be read; `field` is one of
    /// [`UNREADABLE_FIELDS`](crate::telemetry::UNREADABLE_FIELDS).
    pub fn unreadable(&self, field: &str, values: u64) {
        self.families.unreadable_values.with_label_values(&[self.name(), field]).inc_by(values);
    }

    /// Counts a repository whose tags were read, or could not be read.
    pub fn tag_listing(&self, outcome: Result<(), Reason>) {
        match outcome {
            Ok(()) => self.families.tag_listings.with_label_values(&[self.name()]).inc(),
            Err(reason) => {
                self.families.tag_listing_failures.with_label_values(&[self.name(), reason.as_str()]).inc();
            }
        }
    }

    /// Counts repositories whose tags did not have to be read.
    pub fn tag_listings_skipped(&self, repositories: u64) {
        self.families.tag_listings_skipped.with_label_values(&[self.name()]).inc_by(repositories);
    }

    /// How many repositories wait for their tags to be read, and of how many they could not be at the last try.
    pub fn tag_listings_waiting(&self, pending: usize, failing: usize) {
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.families.tag_listings_pending.with_label_values(&[self.name()]).set(gauge(pending));
        self.families.tag_listings_failing.with_label_values(&[self.name()]).set(gauge(failing));
    }

    /// Whether the source started with what a snapshot held.
    pub fn snapshot_restored(&self, restored: bool) {
        self.families.snapshot_restored.with_label_values(&[self.name()]).set(i64::from(restored));
    }

    /// Up to when the snapshot on disk tells what was read.
    pub fn snapshot_time(&self, time: Timestamp) {
        self.families.snapshot_timestamp.with_label_values(&[self.name()]).set(seconds(time));
    }

    /// Counts a snapshot that could not be written.
    pub fn snapshot_failed(&self) {
        self.families.snapshot_write_failures.inc();
    }

    /// Inventory series served and withheld per level of [`LEVELS`], and the limit (0 = none).
    pub fn series(&self, served: [u64; 5], withheld: [u64; 5], limit: u64) {
        let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for ((level, served), withheld) in LEVELS.into_iter().zip(served).zip(withheld) {
            self.families.series.with_label_values(&[self.name(), level]).set(gauge(served));
            self.families.series_withheld.with_label_values(&[self.name(), level]).set(gauge(withheld));
        }
        self.families.series_limit.with_label_values(&[self.name()]).set(gauge(limit));
    }

    /// The source's name, for the log.
    pub fn name(&self) -> &str {
        self.source.as_str()
    }
}

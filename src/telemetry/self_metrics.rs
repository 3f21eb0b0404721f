//! The exporter's own metrics, `container_registry_exporter_*`, in a registry of the `prometheus` crate.

mod figures;
mod source;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector as _, MetricVec, MetricVecBuilder};
use prometheus::proto::{Metric, MetricFamily};
use prometheus::{
    CounterVec, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec,
};
use prometheus::{Opts, Registry};

use super::Collector;
use crate::inventory::{SourceName, Timestamp};
pub use figures::{Figures, SourceFigures};
pub use source::SourceMetrics;

/// The values of the label `level`, from what is withheld last to what is withheld first.
pub const LEVELS: [&str; 5] = ["source", "organization", "repository", "shared_repository", "tag"];

/// Upper bounds in seconds: an answer from the same region takes 20–200 ms, a page of 1000 rows some seconds, and
/// 30 s is the default `request_timeout`.
const REQUEST_SECONDS: [f64; 10] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The one family of these that a single round of polls prints too.
pub const LAST_SUCCESS: &str = "container_registry_exporter_poll_last_success_timestamp_seconds";

/// Counts for the whole process: the log is there before all other metrics.
pub(super) static LOG_LINES_DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    let name = "log_lines_dropped_total";
    let help = "Lines of the log that were dropped because whoever reads it stood still";
    IntCounter::with_opts(opts(name, help)).expect(VALID)
});

/// All metrics of the exporter itself. Cloning shares them.
#[derive(Clone)]
pub struct SelfMetrics {
    registry: Registry,
    families: Arc<Families>,
    /// Sources that ran once. What still works for one of them, such as the rendering of a page, may end after it.
    gone: Arc<Mutex<HashSet<String>>>,
}

struct Families {
    config_last_reload_successful: IntGauge,
    config_last_reload_success_timestamp: Gauge,
    http_requests: IntCounterVec,
    polls: IntCounterVec,
    poll_failures: IntCounterVec,
    poll_duration: GaugeVec,
    poll_interval: GaugeVec,
    poll_last_success: GaugeVec,
    organization_last_success: GaugeVec,
    listing_total_mismatch: IntGaugeVec,
    api_requests: IntCounterVec,
    api_request_duration: HistogramVec,
    api_retries: IntCounterVec,
    api_throttled: IntCounterVec,
    api_wait: CounterVec,
    credentials_expiry: GaugeVec,
    clock_skew: GaugeVec,
    tag_listings: IntCounterVec,
    tag_listings_skipped: IntCounterVec,
    tag_listing_failures: IntCounterVec,
    tag_listings_pending: IntGaugeVec,
    tag_listings_failing: IntGaugeVec,
    unreadable_values: IntCounterVec,
    series: IntGaugeVec,
    series_withheld: IntGaugeVec,
    series_limit: IntGaugeVec,
    duplicates: IntCounterVec,
    snapshot_timestamp: GaugeVec,
    snapshot_restored: IntGaugeVec,
    snapshot_write_failures: IntCounter,
}

impl SelfMetrics {
    /// A registry with every family, still without any source, and the `process_*` metrics.
    #[expect(clippy::too_many_lines, reason = "one table of names and help texts")]
    pub fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let source = &["source"];
        let collector = &["source", "collector"];
        let families = Families {
            config_last_reload_successful: gauge(
                r,
                "config_last_reload_successful",
                "Whether the last attempt to load the configuration succeeded",
            ),
            config_last_reload_success_timestamp: {
                let name = "config_last_reload_success_timestamp_seconds";
                let help = "When the configuration in force was loaded";
                register(r, Gauge::with_opts(opts(name, help)).expect(VALID))
            },
            http_requests: counters(r, "http_requests_total", "HTTP requests answered", &["handler", "code"]),
            polls: counters(r, "polls_total", "Finished polls, failed ones included", collector),
            poll_failures: counters(
                r,
                "poll_failures_total",
                "Failed polls by reason",
                &["source", "collector", "reason"],
            ),
            poll_duration: gauges(r, "poll_duration_seconds", "How long the last poll took", collector),
            poll_interval: gauges(
                r,
                "poll_interval_seconds",
                "Configured time from the start of a poll to the start of the next",
                source,
            ),
            poll_last_success: gauges(
                r,
                "poll_last_success_timestamp_seconds",
                "When the collector last succeeded",
                collector,
            ),
            organization_last_success: gauges(
                r,
                "organization_last_success_timestamp_seconds",
                "When the organization's own listing last succeeded",
                &["source", "organization"],
            ),
            listing_total_mismatch: int_gauges(
                r,
                "listing_total_mismatch",
                "Total that the API stated minus the rows that it listed, at the last success",
                collector,
            ),
            api_requests: counters(
                r,
                "api_requests_total",
                "API requests by HTTP status, or error where no answer came",
                &["source", "operation", "code"],
            ),
            api_request_duration: {
                let name = "api_request_duration_seconds";
                let help = "Time from sending an API request to the end of its answer, waiting for the pace excluded";
                let opts = HistogramOpts::from(opts(name, help)).buckets(REQUEST_SECONDS.to_vec());
                register(r, HistogramVec::new(opts, &["source", "operation"]).expect(VALID))
            },
            api_retries: counters(
                r,
                "api_retries_total",
                "API requests that were sent again",
                &["source", "operation"],
            ),
            api_throttled: counters(
                r,
                "api_throttled_total",
                "Answers that said there were too many requests",
                source,
            ),
            api_wait: {
                let name = "api_wait_seconds_total";
                let help = "Time that API requests waited for the pace, for Retry-After and between retries";
                register(r, CounterVec::new(opts(name, help), source).expect(VALID))
            },
            credentials_expiry: gauges(
                r,
                "credentials_expiry_timestamp_seconds",
                "When the credential in use expires, where that is known",
                source,
            ),
            clock_skew: gauges(
                r,
                "clock_skew_seconds",
                "Clock of this machine minus clock of the API, as of its last answer",
                source,
            ),
            tag_listings: counters(r, "tag_listings_total", "Repositories whose tags were read", source),
            tag_listings_skipped: counters(
                r,
                "tag_listings_skipped_total",
                "Repositories whose tags did not have to be read because nothing had changed",
                source,
            ),
            tag_listing_failures: counters(
                r,
                "tag_listing_failures_total",
                "Repositories whose tags could not be read, by reason",
                &["source", "reason"],
            ),
            tag_listings_pending: int_gauges(
                r,
                "tag_listings_pending",
                "Repositories whose tags are still to be read",
                source,
            ),
            tag_listings_failing: int_gauges(
                r,
                "tag_listings_failing",
                "Repositories whose tags could not be read at the last try",
                source,
            ),
            unreadable_values: counters(
                r,
                "unreadable_values_total",
                "Values of answers that were left out because they are not what the API documents, by what they feed",
                &["source", "field"],
            ),
            series: int_gauges(r, "series", "Inventory series served, by level", &["source", "level"]),
            series_withheld: int_gauges(
                r,
                "series_withheld",
                "Inventory series withheld to keep within the limit, by level",
                &["source", "level"],
            ),
            series_limit: int_gauges(
                r,
                "series_limit",
                "Configured limit of inventory series; 0 = no limit",
                source,
            ),
            duplicates: counters(
                r,
                "duplicates_total",
                "Rows that a listing held more than once, each kept once",
                source,
            ),
            snapshot_timestamp: gauges(
                r,
                "snapshot_timestamp_seconds",
                "Up to when the snapshot on disk tells what was read",
                source,
            ),
            snapshot_restored: int_gauges(
                r,
                "snapshot_restored",
                "Whether the source started with what a snapshot held",
                source,
            ),
            snapshot_write_failures: {
                let (name, help) = ("snapshot_write_failures_total", "Snapshots that could not be written");
                register(r, IntCounter::with_opts(opts(name, help)).expect(VALID))
            },
        };
        register(r, LOG_LINES_DROPPED.clone());
        let build = int_gauges(
            r,
            "build_info",
            "Version of the exporter; always 1",
            &["version", "revision", "rustc"],
        );
        let (revision, rustc) = (env!("CRE_REVISION"), env!("CRE_RUSTC"));
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), revision, rustc]).set(1);
        #[cfg(target_os = "linux")]
        r.register(Box::new(prometheus::process_collector::ProcessCollector::for_self())).expect(VALID);
        Self { registry, families: Arc::new(families), gone: Arc::default() }
    }

    /// The metrics of one source, still without any series: it may never come to run.
    pub fn handle(&self, name: &SourceName) -> SourceMetrics {
        SourceMetrics::new(Arc::clone(&self.families), name.clone())
    }

    /// The metrics of one source, with every series whose labels are known beforehand at 0.
    pub fn source(&self, name: &SourceName, collectors: &[Collector], interval: Duration) -> SourceMetrics {
        if self.gone().contains(name.as_str()) {
            // What came late of one of the same name.
            self.forget(name);
            self.gone().remove(name.as_str());
        }
        let metrics = self.handle(name);
        metrics.configure(collectors, interval);
        metrics
    }

    /// Drops every series of a source that is no longer configured. What comes late of it is not shown.
    pub fn forget(&self, source: &SourceName) {
        self.gone().insert(source.as_str().to_owned());
        let f = &self.families;
        for counters in [&f.polls, &f.poll_failures, &f.api_requests, &f.api_retries, &f.api_throttled] {
            forget(counters, source);
        }
        for counters in [&f.tag_listings, &f.tag_listings_skipped, &f.tag_listing_failures, &f.duplicates] {
            forget(counters, source);
        }
        for gauges in
            [&f.poll_duration, &f.poll_interval, &f.poll_last_success, &f.credentials_expiry, &f.clock_skew]
        {
            forget(gauges, source);
        }
        forget(&f.organization_last_success, source);
        forget(&f.snapshot_timestamp, source);
        forget(&f.snapshot_restored, source);
        for gauges in [
            &f.listing_total_mismatch,
            &f.tag_listings_pending,
            &f.tag_listings_failing,
            &f.series,
            &f.series_withheld,
            &f.series_limit,
        ] {
            forget(gauges, source);
        }
        forget(&f.api_request_duration, source);
        forget(&f.api_wait, source);
        forget(&f.unreadable_values, source);
    }

    /// Notes an attempt to load the configuration, at `now`.
    pub fn config_loaded(&self, successful: bool, now: Timestamp) {
        self.families.config_last_reload_successful.set(i64::from(successful));
        if successful {
            self.families.config_last_reload_success_timestamp.set(seconds(now));
        }
    }

    /// Counts an answer of our own HTTP server. `handler` must be one of a closed set.
    pub fn http_request(&self, handler: &str, code: u16) {
        self.families.http_requests.with_label_values(&[handler, &code.to_string()]).inc();
    }

    /// The current values, sorted by family and labels. CPU time has fractions of a second.
    pub fn gather(&self) -> Vec<MetricFamily> {
        let mut families = self.registry.gather();
        let gone = self.gone().clone();
        if !gone.is_empty() {
            let shown = |metric: &Metric| {
                let source = metric.get_label().iter().find(|label| label.name() == "source");
                source.is_none_or(|label| !gone.contains(label.value()))
            };
            for family in &mut families {
                family.mut_metric().retain(shown);
            }
            families.retain(|family| !family.get_metric().is_empty());
        }
        // The `prometheus` crate counts whole seconds.
        if let Some(cpu) = families.iter_mut().find(|f| f.name() == "process_cpu_seconds_total")
            && let Some(seconds) = cpu_seconds()
            && let Some(metric) = cpu.mut_metric().first_mut()
        {
            let mut counter = prometheus::proto::Counter::default();
            counter.set_value(seconds);
            metric.set_counter(counter);
        }
        families
    }

    fn gone(&self) -> MutexGuard<'_, HashSet<String>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for SelfMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Why creating and registering the families cannot fail.
const VALID: &str =
    "names, labels and buckets are constants that differ from each other and follow the rules";

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("container_registry_exporter_{name}"), help)
}

fn register<C: prometheus::core::Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry.register(Box::new(collector.clone())).expect(VALID);
    collector
}

impl Families {
    /// Drops every series of one collector of a source.
    fn forget_collector(&self, source: &SourceName, collector: Collector) {
        let wanted = [("source", source.as_str()), ("collector", collector.as_str())];
        forget_labels(&self.polls, &wanted);
        forget_labels(&self.poll_failures, &wanted);
        forget_labels(&self.poll_duration, &wanted);
        forget_labels(&self.poll_last_success, &wanted);
        forget_labels(&self.listing_total_mismatch, &wanted);
        if collector == Collector::Tags {
            for counters in [&self.tag_listings, &self.tag_listings_skipped, &self.tag_listing_failures] {
                forget(counters, source);
            }
            for gauges in [&self.tag_listings_pending, &self.tag_listings_failing] {
                forget(gauges, source);
            }
        }
    }
}

/// Removes the series of `source` from a family.
fn forget<B: MetricVecBuilder>(family: &MetricVec<B>, source: &SourceName) {
    forget_labels(family, &[("source", source.as_str())]);
}

/// Removes the series that have all of `wanted` among their labels from a family.
fn forget_labels<B: MetricVecBuilder>(family: &MetricVec<B>, wanted: &[(&str, &str)]) {
    for metric in family.collect().iter().flat_map(MetricFamily::get_metric) {
        let labels: HashMap<&str, &str> =
            metric.get_label().iter().map(|label| (label.name(), label.value())).collect();
        if wanted.iter().all(|(name, value)| labels.get(name) == Some(value)) {
            // It was there a moment ago, and if it is not any more, so much the better.
            let _ = family.remove(&labels);
        }
    }
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::with_opts(opts(name, help)).expect(VALID))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(opts(name, help), labels).expect(VALID))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    register(registry, GaugeVec::new(opts(name, help), labels).expect(VALID))
}

fn int_gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(opts(name, help), labels).expect(VALID))
}

/// Seconds since the epoch, as the `prometheus` crate wants them.
fn seconds(time: Timestamp) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a double holds today's time to less than a microsecond")]
    let nanoseconds = time.nanoseconds() as f64;
    nanoseconds / 1e9
}

/// CPU time of this process so far.
#[cfg(target_os = "linux")]
fn cpu_seconds() -> Option<f64> {
    let stat = procfs::process::Process::myself().and_then(|p| p.stat()).ok()?;
    #[expect(clippy::cast_precision_loss, reason = "a double counts ticks exactly for millions of years")]
    let (used, per_second) = ((stat.utime + stat.stime) as f64, procfs::ticks_per_second() as f64);
    Some(used / per_second)
}

#[cfg(not(target_os = "linux"))]
fn cpu_seconds() -> Option<f64> {
    None
}

//! What the metrics have counted so far, for people.

use std::collections::HashMap;
use std::time::Duration;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::proto::Metric;

use super::SelfMetrics;
use crate::inventory::Timestamp;

/// Some of the exporter's own metrics, read off at one moment.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Whether the last attempt to load the configuration succeeded.
    pub last_reload_successful: bool,
    /// When the configuration in force was loaded.
    pub config_loaded: Option<Timestamp>,
    /// By source; one without figures is not there.
    pub sources: HashMap<String, SourceFigures>,
}

/// The same of one source.
#[derive(Clone, Debug, Default)]
pub struct SourceFigures {
    /// `interval` as configured.
    pub poll_interval: Option<Duration>,
    /// API requests sent.
    pub requests: u64,
    /// Those of them that no answer of status 200 to 299 came to.
    pub failed_requests: u64,
    /// Those of them that were sent again.
    pub retries: u64,
    /// Answers that said there were too many requests.
    pub throttled: u64,
    /// Time that requests waited before they were sent.
    pub wait_seconds: f64,
    /// When the credential in use expires, where known.
    pub credentials_expiry: Option<Timestamp>,
    /// This machine's clock minus the API's, where known.
    pub clock_skew_seconds: Option<f64>,
}

impl SelfMetrics {
    /// What is counted so far. Costs about a microsecond for each series that it reads, some ten per source.
    pub fn figures(&self) -> Figures {
        let f = &self.families;
        let mut figures = Figures {
            last_reload_successful: f.config_last_reload_successful.get() == 1,
            config_loaded: time(f.config_last_reload_success_timestamp.get()),
            sources: HashMap::new(),
        };
        let all = &mut figures.sources;
        each(all, &f.poll_interval, |source, metric| {
            source.poll_interval = Duration::try_from_secs_f64(metric.get_gauge().get_value()).ok();
        });
        each(all, &f.api_requests, |source, metric| {
            let requests = whole(metric);
            source.requests += requests;
            if !label(metric, "code").starts_with('2') {
                source.failed_requests += requests;
            }
        });
        each(all, &f.api_retries, |source, metric| source.retries += whole(metric));
        each(all, &f.api_throttled, |source, metric| source.throttled = whole(metric));
        each(all, &f.api_wait, |source, metric| source.wait_seconds = metric.get_counter().get_value());
        each(all, &f.credentials_expiry, |s, m| s.credentials_expiry = time(m.get_gauge().get_value()));
        each(all, &f.clock_skew, |s, m| s.clock_skew_seconds = Some(m.get_gauge().get_value()));
        figures
    }
}

/// Hands each series of a family to `read`, together with the figures of its source.
fn each<B: MetricVecBuilder>(
    sources: &mut HashMap<String, SourceFigures>,
    family: &MetricVec<B>,
    read: impl Fn(&mut SourceFigures, &Metric),
) {
    for family in family.collect() {
        for metric in family.get_metric() {
            read(sources.entry(label(metric, "source").to_owned()).or_default(), metric);
        }
    }
}

fn label<'a>(metric: &'a Metric, name: &str) -> &'a str {
    metric.get_label().iter().find(|label| label.name() == name).map_or("", |label| label.value())
}

/// The value of a counter of whole numbers.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it counts events from 0")]
fn whole(metric: &Metric) -> u64 {
    metric.get_counter().get_value() as u64
}

/// The time that a gauge holds; 0 means that it was never set.
#[expect(clippy::cast_possible_truncation, reason = "to the millisecond is exact enough for people")]
fn time(seconds: f64) -> Option<Timestamp> {
    Timestamp::from_milliseconds((seconds * 1000.0) as i64)
}

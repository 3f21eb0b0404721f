//! The exporter's own counters beside what the rules count.

use container_registry_exporter::telemetry::Reason;
use container_registry_exporter::telemetry::self_metrics::SelfMetrics;

use super::rules::Counts;

/// Compares them; `pending` is the number of tag listings that wait.
pub fn compare(metrics: &SelfMetrics, counts: &Counts, pending: usize) -> Result<(), String> {
    let all = Counters::gather(metrics);
    for collector in ["repositories", "shared_repositories", "tags"] {
        let expected = counts.polls.get(collector).copied().unwrap_or_default();
        all.expect("polls_total", &[("collector", collector)], expected)?;
        for reason in Reason::ALL.map(Reason::as_str) {
            let expected = counts.failures.get(&(collector, reason)).copied().unwrap_or_default();
            all.expect("poll_failures_total", &[("collector", collector), ("reason", reason)], expected)?;
        }
    }
    for reason in Reason::ALL.map(Reason::as_str) {
        let expected = counts.tag_listing_failures.get(reason).copied().unwrap_or_default();
        all.expect("tag_listing_failures_total", &[("reason", reason)], expected)?;
    }
    all.expect("tag_listings_total", &[], counts.tag_listings)?;
    all.expect("tag_listings_skipped_total", &[], counts.tag_listings_skipped)?;
    all.expect("duplicates_total", &[], counts.duplicates)?;
    all.expect("tag_listings_pending", &[], pending as u64)
}

struct Counters(Vec<prometheus::proto::MetricFamily>);

impl Counters {
    fn gather(metrics: &SelfMetrics) -> Self {
        Self(metrics.gather())
    }

    /// A series that is not there counts as 0, which a collector that the source does not have is.
    fn expect(&self, name: &str, labels: &[(&str, &str)], expected: u64) -> Result<(), String> {
        let full = format!("container_registry_exporter_{name}");
        let families = self.0.iter().filter(|family| family.name() == full);
        let mut metrics = families.flat_map(prometheus::proto::MetricFamily::get_metric);
        let metric = metrics.find(|metric| {
            labels.iter().all(|(name, value)| {
                metric.get_label().iter().any(|label| (label.name(), label.value()) == (*name, *value))
            })
        });
        let value =
            metric.map_or(0.0, |metric| metric.get_counter().get_value() + metric.get_gauge().get_value());
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let expected = expected as f64;
        if (value - expected).abs() < 0.5 {
            return Ok(());
        }
        Err(format!("{name}{labels:?} is {value} and not {expected}"))
    }
}

//! The exporter's own metrics as the last piece of the page.

use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::encode::label;
use super::negotiate::Format;
use super::piece::{Deflater, Piece};
use crate::inventory::SourceName;
use crate::telemetry::self_metrics::SelfMetrics;

/// How long encoded metrics are handed out: gathering and encoding those of ten sources costs more than the rest
/// of a scrape of 100,000 series.
const MAX_AGE: Duration = Duration::from_secs(1);
/// From this age on they are gathered anew beside the scrapes: those that come often never wait for it.
const RENEWAL_AGE: Duration = Duration::from_millis(500);

/// The exporter's own metrics, encoded when asked for and kept for up to a second.
pub struct Live {
    metrics: SelfMetrics,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    gathered: Instant,
    families: Vec<MetricFamily>,
    text: Option<Arc<Piece>>,
    open_metrics: Option<Arc<Piece>>,
    /// Others are being gathered.
    renewing: bool,
}

impl Live {
    /// Starts with nothing encoded.
    pub fn new(metrics: SelfMetrics) -> Self {
        Self { metrics, kept: Mutex::new(None) }
    }

    /// The end of a page: the metrics as of `now` or up to a second before, and OpenMetrics' end mark. With
    /// `sources`, only families with a `source` label and of those only these sources' series.
    pub fn piece(&self, format: Format, sources: Option<&[SourceName]>, now: Instant) -> Arc<Piece> {
        let mut kept = self.lock();
        if kept.as_ref().is_none_or(|kept| now.saturating_duration_since(kept.gathered) >= MAX_AGE) {
            *kept = None;
        }
        let kept = kept.get_or_insert_with(|| {
            let families = self.metrics.gather();
            Kept { gathered: now, families, text: None, open_metrics: None, renewing: false }
        });
        if let Some(sources) = sources {
            return Arc::new(piece(&kept.families, format, Some(sources)));
        }
        let encoded = match format {
            Format::Text => &mut kept.text,
            Format::OpenMetrics => &mut kept.open_metrics,
        };
        Arc::clone(encoded.get_or_insert_with(|| Arc::new(piece(&kept.families, format, None))))
    }

    /// Whether somebody should call [`Live::renew`]; says so once.
    pub fn is_due(&self, now: Instant) -> bool {
        let mut kept = self.lock();
        let Some(kept) = kept.as_mut() else { return false };
        let old = now.saturating_duration_since(kept.gathered) >= RENEWAL_AGE;
        old && !std::mem::replace(&mut kept.renewing, true)
    }

    /// Gathers and encodes anew what is kept, which is handed out meanwhile.
    pub fn renew(&self, now: Instant) {
        let families = self.metrics.gather();
        let asked_for = self.lock().as_ref().map(|kept| [kept.text.is_some(), kept.open_metrics.is_some()]);
        let [text, open_metrics] = asked_for.unwrap_or_default();
        let encoded = |asked_for: bool, format| asked_for.then(|| Arc::new(piece(&families, format, None)));
        let text = encoded(text, Format::Text);
        let open_metrics = encoded(open_metrics, Format::OpenMetrics);
        *self.lock() = Some(Kept { gathered: now, families, text, open_metrics, renewing: false });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Kept>> {
        // Nobody panics while holding the lock, and if so the worst is an old figure.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn piece(families: &[MetricFamily], format: Format, sources: Option<&[SourceName]>) -> Piece {
    Piece::new(&encode(families, format, sources), &mut Deflater::new())
}

fn encode(families: &[MetricFamily], format: Format, sources: Option<&[SourceName]>) -> Vec<u8> {
    let mut text = Vec::new();
    let wanted = |metric: &&Metric| {
        let source = || metric.get_label().iter().find(|label| label.name() == "source");
        sources.is_none_or(|names| source().is_some_and(|s| names.iter().any(|n| n.as_str() == s.value())))
    };
    for family in families {
        let mut metrics = family.get_metric().iter().filter(wanted).peekable();
        if metrics.peek().is_none() {
            continue;
        }
        head(&mut text, family, format);
        for metric in metrics {
            samples(&mut text, family, metric, format);
        }
    }
    if format == Format::OpenMetrics {
        text.extend_from_slice(b"# EOF\n");
    }
    text
}

fn head(text: &mut Vec<u8>, family: &MetricFamily, format: Format) {
    let kind = match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::HISTOGRAM => "histogram",
        // The exporter has no other kinds.
        _ => "gauge",
    };
    let name = match format {
        Format::OpenMetrics if kind == "counter" => family.name().trim_end_matches("_total"),
        _ => family.name(),
    };
    // Help texts are our own and the `prometheus` crate's, none of which needs escapes.
    text.extend_from_slice(format!("# HELP {name} {}\n# TYPE {name} {kind}\n", family.help()).as_bytes());
}

fn samples(text: &mut Vec<u8>, family: &MetricFamily, metric: &Metric, format: Format) {
    let name = family.name();
    match family.get_field_type() {
        MetricType::COUNTER => sample(text, name, metric, None, metric.get_counter().get_value()),
        MetricType::HISTOGRAM => {
            let histogram = metric.get_histogram();
            let bucket = format!("{name}_bucket");
            #[expect(clippy::cast_precision_loss, reason = "both formats hold doubles")]
            let number = |count: u64| count as f64;
            for each in histogram.get_bucket() {
                let bound = match format {
                    Format::Text => format!("{}", each.upper_bound()),
                    // OpenMetrics wants bounds to look like floats.
                    Format::OpenMetrics => format!("{:?}", each.upper_bound()),
                };
                sample(text, &bucket, metric, Some(&bound), number(each.cumulative_count()));
            }
            let count = number(histogram.get_sample_count());
            sample(text, &bucket, metric, Some("+Inf"), count);
            sample(text, &format!("{name}_sum"), metric, None, histogram.get_sample_sum());
            sample(text, &format!("{name}_count"), metric, None, count);
        }
        _ => sample(text, name, metric, None, metric.get_gauge().get_value()),
    }
}

fn sample(text: &mut Vec<u8>, name: &str, metric: &Metric, bound: Option<&str>, value: f64) {
    text.extend_from_slice(name.as_bytes());
    let labels = metric.get_label().iter().map(|l| (l.name(), l.value())).chain(bound.map(|b| ("le", b)));
    let mut labels = labels.peekable();
    if labels.peek().is_some() {
        text.push(b'{');
        labels.for_each(|(name, value)| label(text, name, value));
        text.push(b'}');
    }
    let mut number = format!(" {value}\n");
    if value.is_infinite() {
        number.clear();
        let _ = writeln!(number, " {}Inf", if value > 0.0 { '+' } else { '-' });
    }
    text.extend_from_slice(number.as_bytes());
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, TextEncoder};

    use super::*;
    use crate::telemetry::{Collector, Reason};

    fn metrics() -> SelfMetrics {
        let metrics = SelfMetrics::new();
        for name in ["a", "b"] {
            let name = SourceName::new(name).unwrap();
            let source = metrics.source(&name, &[Collector::Repositories], Duration::from_mins(5));
            source.request("list_repositories", Some(200), Duration::from_millis(70));
            source.poll(Collector::Repositories, Err(Reason::Timeout), Duration::from_secs(1));
        }
        metrics.http_request("metrics", 200);
        metrics
    }

    fn encoded(format: Format, sources: Option<&[SourceName]>) -> String {
        String::from_utf8(encode(&metrics().gather(), format, sources)).unwrap()
    }

    #[test]
    fn text_is_what_the_prometheus_crate_writes() {
        let families = metrics().gather();
        let mut expected = Vec::new();
        TextEncoder::new().encode(&families, &mut expected).unwrap();
        assert_eq!(String::from_utf8(encode(&families, Format::Text, None)), String::from_utf8(expected));
    }

    #[test]
    fn openmetrics_names_counters_without_total_and_ends_in_eof() {
        let text = encoded(Format::OpenMetrics, None);
        assert!(text.contains("# TYPE container_registry_exporter_polls counter\n"), "{text}");
        let sample = "container_registry_exporter_polls_total{collector=\"repositories\",source=\"a\"} 1\n";
        assert!(text.contains(sample), "{text}");
        assert!(text.contains("le=\"1.0\"}") && text.contains("le=\"+Inf\"}"), "{text}");
        assert!(text.ends_with("\n# EOF\n"), "{text}");
        let counters = text.lines().filter(|l| l.starts_with("# TYPE") && l.ends_with(" counter"));
        for counter in counters {
            let name = counter.split(' ').nth(2).unwrap();
            assert!(text.contains(&format!("\n{name}_total")), "{name}");
        }
    }

    #[test]
    fn a_selection_of_sources_has_their_series_only() {
        let text = encoded(Format::Text, Some(&[SourceName::new("b").unwrap()]));
        let samples: Vec<_> = text.lines().filter(|l| !l.starts_with('#')).collect();
        assert!(samples.len() > 10);
        assert!(samples.iter().all(|l| l.contains("source=\"b\"")), "{text}");
    }

    #[test]
    fn is_at_most_a_second_old() {
        let metrics = metrics();
        let live = Live::new(metrics.clone());
        let start = Instant::now();
        let text = |millis| {
            let piece = live.piece(Format::Text, None, start + Duration::from_millis(millis));
            String::from_utf8(piece.text.to_vec()).unwrap()
        };
        let first = text(0);
        metrics.http_request("landing", 200);
        assert_eq!(text(999), first);
        assert!(text(1000).contains("handler=\"landing\""));
    }

    #[test]
    fn is_renewed_once_before_it_is_too_old_and_handed_out_meanwhile() {
        let metrics = metrics();
        let live = Live::new(metrics.clone());
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let first = live.piece(Format::Text, None, at(0));
        metrics.http_request("landing", 200);
        assert!(!live.is_due(at(499)));
        assert!(live.is_due(at(500)));
        assert!(!live.is_due(at(501)));
        assert!(Arc::ptr_eq(&live.piece(Format::Text, None, at(502)), &first));
        live.renew(at(503));
        let renewed = live.piece(Format::Text, None, at(1002));
        assert!(String::from_utf8(renewed.text.to_vec()).unwrap().contains("handler=\"landing\""));
        assert!(live.is_due(at(1003)));
    }
}

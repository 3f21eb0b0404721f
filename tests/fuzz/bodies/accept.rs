//! `Accept` and `Accept-Encoding` of a scrape.

use container_registry_exporter::exposition::negotiate::{Format, accepts_gzip};

/// Neither case nor empty elements matter; text that is named at full quality is preferred to everything else, and
/// what is refused by name is not sent.
pub fn run(data: &[u8]) {
    // Header values are visible ASCII by the time they come here.
    let Ok(header) = str::from_utf8(data) else { return };
    let variants = [header.to_ascii_uppercase(), header.to_ascii_lowercase(), format!(", ,{header}, ")];
    for variant in variants {
        assert_eq!(Format::negotiate(&variant), Format::negotiate(header), "{variant}");
        assert_eq!(accepts_gzip(&variant), accepts_gzip(header), "{variant}");
    }
    let format = |more: &str| Format::negotiate(&format!("{header},{more}"));
    assert_eq!(format("text/plain"), Format::Text);
    assert!(!accepts_gzip(&format!("{header},gzip;q=0")));
    assert!(accepts_gzip(&format!("{header},gzip")));
    if Format::negotiate(header) == Format::OpenMetrics {
        assert_eq!(format("application/openmetrics-text"), Format::OpenMetrics);
        let lower = header.to_ascii_lowercase();
        assert!(["application/openmetrics-text", "application/*", "*/*"].iter().any(|r| lower.contains(r)));
    }
}

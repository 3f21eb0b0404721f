//! Which format and which encoding a client gets.

/// The two exposition formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// OpenMetrics if the `Accept` header's value prefers it, else text.
    pub fn negotiate(accept: &str) -> Self {
        let mut text = Preference::default();
        let mut open_metrics = Preference::default();
        for (range, parameters, quality) in ranges(accept) {
            let version = parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case("version"));
            let version = version.map(|(_, version)| *version);
            match range.to_ascii_lowercase().as_str() {
                "application/openmetrics-text" if version.is_none_or(|v| v == "1.0.0") => {
                    open_metrics.named = open_metrics.named.max(Some(quality));
                }
                "text/plain" if version.is_none_or(|v| v == "0.0.4") => {
                    text.named = text.named.max(Some(quality));
                }
                "application/*" => open_metrics.wildcard = quality,
                "text/*" => text.wildcard = quality,
                "*/*" => {
                    open_metrics.wildcard = open_metrics.wildcard.max(quality);
                    text.wildcard = text.wildcard.max(quality);
                }
                _ => {}
            }
        }
        let (open_metrics, text) = (open_metrics.rank(), text.rank());
        if open_metrics.0 > 0 && open_metrics > text { Self::OpenMetrics } else { Self::Text }
    }

    /// The value of the `Content-Type` header.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// How much a client likes a format, in thousandths.
#[derive(Default)]
struct Preference {
    named: Option<u16>,
    wildcard: u16,
}

impl Preference {
    /// A format that is named does not fall under wildcards, and of equal qualities it is preferred to one that does.
    fn rank(&self) -> (u16, bool) {
        self.named.map_or((self.wildcard, false), |quality| (quality, true))
    }
}

/// Whether the `Accept-Encoding` header's value asks for gzip.
pub fn accepts_gzip(accept_encoding: &str) -> bool {
    let mut gzip = None;
    let mut any = 0;
    let mut identity = 0;
    for (coding, _, quality) in ranges(accept_encoding) {
        match coding.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => gzip = Some(quality),
            "identity" => identity = quality,
            "*" => any = quality,
            _ => {}
        }
    }
    let gzip = gzip.unwrap_or(any);
    gzip > 0 && gzip >= identity
}

/// The elements of a header such as `a;version=1;q=0.5, b`: each with its parameters and its quality in thousandths.
fn ranges(header: &str) -> impl Iterator<Item = (&str, Vec<(&str, &str)>, u16)> {
    header.split(',').filter_map(|element| {
        let mut parts = element.split(';').map(str::trim);
        let range = parts.next().filter(|range| !range.is_empty())?;
        let mut parameters: Vec<(&str, &str)> = parts
            .filter_map(|part| part.split_once('='))
            .map(|(name, value)| (name.trim(), value.trim().trim_matches('"')))
            .collect();
        let quality = parameters.iter().position(|(name, _)| name.eq_ignore_ascii_case("q"));
        let quality = quality.map_or(Some(1000), |index| thousandths(parameters.swap_remove(index).1))?;
        Some((range, parameters, quality))
    })
}

/// A quality from `0` to `1` with up to three decimals; `None` for anything else, whose element then counts as absent.
fn thousandths(quality: &str) -> Option<u16> {
    let (whole, fraction) = quality.split_once('.').unwrap_or((quality, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) || fraction.len() > 3 {
        return None;
    }
    let thousandths = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_what_prometheus_asks_for_in_openmetrics() {
        for accept in [
            // Prometheus 2.42
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            // Prometheus 3
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            "application/openmetrics-text",
            "application/openmetrics-text; version=\"1.0.0\", */*",
            "TEXT/plain;q=0.5, Application/OpenMetrics-Text; Version=1.0.0; Q=0.501",
        ] {
            assert_eq!(Format::negotiate(accept), Format::OpenMetrics, "{accept}");
        }
    }

    #[test]
    fn answers_everybody_else_in_text() {
        for accept in [
            "",
            "*/*",
            "text/plain",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "application/json",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;version=2.0.0, text/plain;q=0.1",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0, application/*",
            "application/openmetrics-text;q=0.3, text/plain;q=0.5",
            "application/openmetrics-text, text/plain",
            "application/openmetrics-text;q=2",
            "application/openmetrics-text;q=",
            ";;;,,=;q=1,",
        ] {
            assert_eq!(Format::negotiate(accept), Format::Text, "{accept}");
        }
    }

    #[test]
    fn compresses_only_for_those_who_accept_gzip() {
        for (header, gzip) in [
            ("gzip", true),
            ("GZIP", true),
            ("deflate, gzip;q=1.0, *;q=0.5", true),
            ("*", true),
            ("br, x-gzip;q=0.001", true),
            ("", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip;q=0.000, *", false),
            ("*;q=0", false),
            ("gzip;q=0.5, identity", false),
            ("deflate, br", false),
        ] {
            assert_eq!(accepts_gzip(header), gzip, "{header}");
        }
    }
}

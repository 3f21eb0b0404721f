//! The page for people: which sources there are and how they do.

use std::fmt::{self, Display, Write};
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::exposition::page::Pages;
use crate::exposition::{Source, Sources};
use crate::inventory::{SourceName, Timestamp};
use crate::scheduler::{CollectorStatus, SourceStatus};

const STYLE: &str = include_str!("landing.css");

/// The `Content-Security-Policy` of the page: nothing but its own style.
pub static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// The page as of `now`.
pub fn html(sources: &Sources, pages: &Pages, telemetry_path: &str, now: Timestamp) -> String {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>container-registry-exporter</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>container-registry-exporter {}</h1>\n<p><a href=\"{}\">Metrics</a></p>\n",
        env!("CARGO_PKG_VERSION"),
        Escaped(telemetry_path),
    );
    for (name, source) in sources {
        section(&mut html, name, source, pages, now);
    }
    html.push_str("</body>\n</html>\n");
    html
}

fn section(html: &mut String, name: &SourceName, source: &Source, pages: &Pages, now: Timestamp) {
    let state = source.states.borrow().clone();
    let (status, inventory) = (&state.status, &state.inventory);
    let (class, word) = summary(status);
    let polling = if status.polling { ", polling now" } else { "" };
    let _ = write!(html, "<section class=\"{class}\">\n<h2>{}: {word}{polling}</h2>\n<dl>\n", Escaped(name));
    let info = &inventory.source;
    row(html, "API", format_args!("{}, {}, {}", info.provider, info.cloud_region, info.api_host));
    match &inventory.repositories {
        Some(repositories) => row(html, "Repositories", repositories.entries.len()),
        None => row(html, "Repositories", "not known"),
    }
    if let Some(shared) = &inventory.shared {
        row(html, "Shared repositories", shared.len());
    }
    row(html, "Tag listings pending", status.tags_pending);
    if let Some(page) = pages.source(name) {
        let served: u64 = page.counts.served.iter().sum();
        let withheld: u64 = page.counts.withheld.iter().sum();
        row(html, "Series", format_args!("{served} served, {withheld} withheld"));
    }
    for collector in &status.collectors {
        last_success(html, collector, now);
    }
    // While it runs, the time of the next poll is that of this one.
    if let Some(next_poll) = status.next_poll.filter(|_| !status.polling) {
        time_row(html, "Next poll", next_poll, now);
    }
    for (collector, failure) in
        status.collectors.iter().filter_map(|c| Some((c.collector, c.failure.as_ref()?)))
    {
        let title = format!("Error in {}", collector.as_str());
        time_row(html, &title, failure.time, now);
        row(html, "", format_args!("{}: {}", failure.reason.as_str(), failure.message));
    }
    html.push_str("</dl>\n</section>\n");
}

/// A source's state in a class of the style and a word.
fn summary(status: &SourceStatus) -> (&'static str, &'static str) {
    if status.collectors.iter().any(|collector| collector.failure.is_some()) {
        ("failing", "failing")
    } else if status.collectors.iter().any(|collector| collector.last_success.is_some()) {
        ("ok", "ok")
    } else {
        ("new", "not polled yet")
    }
}

fn last_success(html: &mut String, status: &CollectorStatus, now: Timestamp) {
    let title = format!("Last success of {}", status.collector.as_str());
    match status.last_success {
        Some(time) => time_row(html, &title, time, now),
        None => row(html, &title, "never"),
    }
}

fn row(html: &mut String, title: &str, text: impl Display) {
    let _ = writeln!(html, "<dt>{title}</dt><dd>{}</dd>", Escaped(text));
}

fn time_row(html: &mut String, title: &str, time: Timestamp, now: Timestamp) {
    let seconds = time.nanoseconds().div_euclid(1_000_000_000);
    let date = jiff::Timestamp::from_second(seconds).map(|date| date.to_string()).unwrap_or_default();
    let distance = distance(seconds - now.nanoseconds().div_euclid(1_000_000_000));
    let _ = writeln!(html, "<dt>{title}</dt><dd>{distance} (<time datetime=\"{date}\">{date}</time>)</dd>");
}

/// How far away a time is: `5 min ago`, `in 2 h`.
fn distance(seconds: i64) -> String {
    let amount = match seconds.unsigned_abs() {
        0 => return "now".to_owned(),
        s @ 1..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s @ 7200..172_800 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    };
    if seconds < 0 { format!("{amount} ago") } else { format!("in {amount}") }
}

/// Text as HTML, in elements and in quoted attributes.
struct Escaped<T>(T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.to_string().chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_html_gives_a_meaning() {
        assert_eq!(Escaped("<a href='x'>&\"é").to_string(), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;é");
    }

    #[test]
    fn tells_distances_in_the_unit_that_people_would_use() {
        for (seconds, text) in [
            (0, "now"),
            (-1, "1 s ago"),
            (119, "in 119 s"),
            (-120, "2 min ago"),
            (7200, "in 2 h"),
            (-172_800, "2 days ago"),
        ] {
            assert_eq!(distance(seconds), text);
        }
    }
}

//! The page for people: how the exporter and its sources do, and what to do where they do not.

mod text;

use std::cmp::Reverse;
use std::fmt::{Display, Write};
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::status::{CollectorState, Failure, SourceStatus, State, Status, cut};
use crate::inventory::Timestamp;
use text::{Escaped, amount, clock, counted, foreign, number, spelled, time};

const STYLE: &str = include_str!("landing/style.css");

/// The longest name that is shown, in characters; longer ones are whole in `/status.json`.
const LONGEST_NAME: usize = 60;
/// How many lists that could not be read are shown; likewise.
const MOST_LISTS: usize = 20;
/// The longest error that is shown, in characters; likewise.
const LONGEST_MESSAGE: usize = 600;

/// The `Content-Security-Policy` of the page: nothing but its own style.
pub static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// The page. Its links are relative, so that they hold behind a proxy that adds a path, too.
pub fn html(status: &Status) -> String {
    let verdict = verdict(status);
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{verdict} – container-registry-exporter</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
    );
    header(&mut html, status, &verdict);
    html.push_str("<main>\n");
    // What needs somebody comes first; the sort keeps the order of the names otherwise.
    let mut sources: Vec<_> = status.sources.iter().collect();
    sources.sort_by_key(|source| Reverse(source.state));
    if sources.len() > 1 {
        overview(&mut html, &sources, status.time);
    }
    for source in sources {
        card(&mut html, source, status);
    }
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

/// How it goes, in a sentence.
fn verdict(status: &Status) -> String {
    let all = status.sources.len();
    let in_state = |wanted: fn(State) -> bool| status.sources.iter().filter(|s| wanted(s.state)).count();
    let bad = in_state(|state| state >= State::Failing);
    let untried = in_state(|state| matches!(state, State::Waiting | State::Restored));
    let verdict = match (bad, untried) {
        (0, 0) if all == 1 => "The source is well".to_owned(),
        (0, 0) => "All sources are well".to_owned(),
        (0, _) if all == 1 => "Waiting for the first poll".to_owned(),
        (0, _) => format!("Waiting for the first poll of {untried} of {all} sources"),
        (1, _) if all == 1 => "The source needs attention".to_owned(),
        (1, _) => format!("1 of {all} sources needs attention"),
        (_, _) => format!("{bad} of {all} sources need attention"),
    };
    let reload = if status.configuration.last_reload_successful { "" } else { "; the last reload failed" };
    verdict + reload
}

fn header(html: &mut String, status: &Status, verdict: &str) {
    let now = status.time;
    let _ = write!(
        html,
        "<header>\n<h1>container-registry-exporter</h1>\n<p class=\"verdict note {}\">{verdict}</p>\n\
         <p class=\"quiet\">As of <time datetime=\"{now}\">{}</time>. Version {} ({}), up for {}, since {}.",
        match class(status.state) {
            "good" if !status.configuration.last_reload_successful => "wait",
            class => class,
        },
        spelled(now),
        status.version,
        status.revision,
        amount(status.uptime_seconds),
        clock(status.start_time, now),
    );
    if let Some(loaded) = status.configuration.load_time {
        let _ = write!(html, " Configuration loaded {}.", time(loaded, now));
    }
    html.push_str("</p>\n");
    if !status.configuration.last_reload_successful {
        html.push_str(
            "<div class=\"note bad\"><p><strong>The last attempt to load the configuration failed.</strong> The old one stays in force. \
             The log names every problem, as does <code>container-registry-exporter check</code>.</p></div>\n",
        );
    }
    html.push_str("<nav aria-label=\"Pages\"><ul>\n");
    let metrics = status.telemetry_path.trim_start_matches('/');
    for (path, title) in [
        (metrics, "Metrics"),
        ("status.json", "This page as JSON"),
        ("-/ready", "Readiness"),
        ("-/healthy", "Health"),
    ] {
        let _ = writeln!(html, "<li><a href=\"./{}\">{title}</a></li>", Escaped(path));
    }
    html.push_str("</ul></nav>\n</header>\n");
}

fn overview(html: &mut String, sources: &[&SourceStatus], now: Timestamp) {
    html.push_str(
        "<section class=\"card\" aria-labelledby=\"overview\">\n<h2 id=\"overview\">Sources</h2>\n<table class=\"overview\">\n<thead><tr>\
         <th scope=\"col\">Source</th><th scope=\"col\">State</th><th scope=\"col\">Last listed</th>\
         <th scope=\"col\" class=\"wide\">Next poll</th><th scope=\"col\" class=\"wide figure\">Repositories</th>\
         <th scope=\"col\" class=\"wide figure\">Tags</th><th scope=\"col\" class=\"wide figure\">Series</th></tr></thead>\n<tbody>\n",
    );
    for source in sources {
        let listed = source.collectors.first().and_then(|collector| collector.last_success_time);
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\"><a href=\"#source-{}\">{}</a></th><td>{}</td><td>{}</td>\
             <td class=\"wide\">{}</td><td class=\"wide figure\">{}</td><td class=\"wide figure\">{}</td>\
             <td class=\"wide figure\">{}</td></tr>",
            Escaped(&source.name),
            foreign(&source.name, LONGEST_NAME),
            badge(source.state),
            listed.map_or_else(|| "never".to_owned(), |listed| time(listed, now)),
            next_poll(source, now),
            known(source.repositories),
            known(source.tags),
            known(source.series),
        );
    }
    html.push_str("</tbody>\n</table>\n</section>\n");
}

fn card(html: &mut String, source: &SourceStatus, status: &Status) {
    let now = status.time;
    let id = Escaped(&source.name);
    let _ = write!(
        html,
        "<section class=\"card\" id=\"source-{id}\" aria-labelledby=\"name-{id}\">\n\
         <h2 id=\"name-{id}\">{} {}</h2>\n\
         <p class=\"quiet\">{}, {}, {}</p>\n",
        foreign(&source.name, LONGEST_NAME),
        badge(source.state),
        match source.provider {
            "swr" => "Huawei Cloud SWR",
            "ncr" => "NAVER Cloud Container Registry",
            other => other,
        },
        foreign(&source.cloud_region, LONGEST_NAME),
        foreign(&source.api_host, LONGEST_NAME),
    );
    if let Some(explanation) = explanation(source) {
        let _ = writeln!(html, "<p>{explanation}</p>");
    }
    problems(html, source, now);
    figures(html, source, now);
    collectors(html, source, now);
    lists_down(html, source, now);
    let metrics = Escaped(status.telemetry_path.trim_start_matches('/'));
    let _ = writeln!(
        html,
        "<p><a href=\"./{metrics}?source={id}\">Metrics of {}</a></p>\n</section>",
        foreign(&source.name, LONGEST_NAME)
    );
}

/// What a state means for the metrics, where that needs to be said.
fn explanation(source: &SourceStatus) -> Option<&'static str> {
    let serves = source.repositories.is_some();
    match source.state {
        State::Ok => None,
        State::Waiting => Some("The first listing has not ended yet. Nothing is known so far."),
        State::Restored => Some(
            "The first listing since the start has not ended yet. Meanwhile the metrics show what the snapshot held.",
        ),
        State::Failing | State::Refused if serves => Some("The metrics go on showing what was read before."),
        State::Failing | State::Refused => {
            Some("Its repositories could not be listed so far, so the metrics do not have them.")
        }
        State::Stale => Some("What was read before is too old to be shown, so its metrics are withdrawn."),
    }
}

/// What failed, a note for each reason.
fn problems(html: &mut String, source: &SourceStatus, now: Timestamp) {
    let mut reasons: Vec<(&str, Vec<(&str, &Failure)>)> = Vec::new();
    for collector in &source.collectors {
        let Some(failure) = &collector.failure else { continue };
        let failed = (title(collector), failure);
        match reasons.iter_mut().find(|(reason, _)| *reason == failure.reason) {
            Some((_, all)) => all.push(failed),
            None => reasons.push((failure.reason, vec![failed])),
        }
    }
    for (reason, all) in reasons {
        let first = all[0].1;
        let titles: Vec<_> = all.iter().map(|(title, _)| *title).collect();
        let _ = write!(
            html,
            "<div class=\"note bad\">\n<h3>{} failed: <code>{reason}</code></h3>\n<p>{}.</p>\n\
             <p><strong>What to do:</strong> {}.</p>\n",
            titles.join(" and ").replace(" and Shared", " and shared").replace(" and Tags", " and tags"),
            first.what_happened,
            first.cure,
        );
        if let Some(next) = first.next_attempt_time {
            let _ = writeln!(html, "<p>The credential is tried again {}.</p>", time(next, now));
        }
        for (title, failure) in all {
            let (when, message) = (
                time(failure.time, now),
                foreign(&cut(&failure.message, LONGEST_MESSAGE), LONGEST_MESSAGE + 1),
            );
            let _ = writeln!(html, "<p class=\"message\">{title}, {when}: {message}</p>");
        }
        html.push_str("</div>\n");
    }
}

fn figures(html: &mut String, source: &SourceStatus, now: Timestamp) {
    html.push_str("<dl>\n");
    figure(html, "Next poll", next_poll(source, now), interval(source));
    let listed = source.listed_repositories.filter(|listed| Some(*listed) != source.repositories);
    let listed = listed.map(|listed| format!("of {} listed", number(listed)));
    figure(html, "Repositories", known(source.repositories), listed);
    if let Some(shared) = source.shared_repositories {
        figure(html, "Shared repositories", number(shared), None);
    }
    if let Some(pending) = source.tag_listings_pending {
        let pending = (pending > 0).then(|| format!("{} still to be read", counted(pending, "repository")));
        figure(html, "Tags", known(source.tags), pending);
    }
    let limit = source.series_limit.map(|limit| format!("limit {}", number(limit)));
    figure(html, "Series", known(source.series), limit);
    if let Some(withheld) = source.series_withheld.filter(|withheld| *withheld > 0) {
        figure(html, "Series withheld", number(withheld), Some("over the limit".to_owned()));
    }
    let api = &source.api;
    let mut calls = format!("{} failed, {} throttled", number(api.failed_requests), number(api.throttled));
    if api.wait_seconds >= 1.0 {
        let _ = write!(calls, ", waited {:.0} s", api.wait_seconds);
    }
    figure(html, "API calls", number(api.requests), Some(calls));
    if let Some(expiry) = source.credentials_expiry_time {
        figure(html, "Credential expires", time(expiry, now), None);
    }
    if let Some(skew) = api.clock_skew_seconds.filter(|skew| skew.abs() >= 1.0) {
        let side = if skew > 0.0 { "ahead" } else { "behind" };
        figure(html, "Clock of this machine", format_args!("{:.0} s {side}", skew.abs()), None);
    }
    html.push_str("</dl>\n");
}

/// `value` and `note` are HTML.
fn figure(html: &mut String, title: &str, value: impl Display, note: Option<String>) {
    let note = note.map(|note| format!("<span class=\"quiet\">{note}</span>")).unwrap_or_default();
    let _ = writeln!(html, "<div><dt>{title}</dt><dd>{value}{note}</dd></div>");
}

fn collectors(html: &mut String, source: &SourceStatus, now: Timestamp) {
    html.push_str(
        "<table class=\"collectors\">\n<thead><tr><th scope=\"col\">Collector</th><th scope=\"col\">State</th>\
         <th scope=\"col\">Last success</th></tr></thead>\n<tbody>\n",
    );
    for collector in &source.collectors {
        let state = match (&collector.failure, collector.last_success_time) {
            (Some(_), _) => State::Failing,
            (None, Some(_)) => State::Ok,
            (None, None) => State::Waiting,
        };
        let success = collector.last_success_time;
        let success = success.map_or_else(|| "never".to_owned(), |success| time(success, now));
        let (title, badge) = (title(collector), badge(state));
        let _ = write!(html, "<tr><th scope=\"row\">{title}</th><td>{badge}</td><td>{success}");
        if collector.listing_total_mismatch != 0 {
            let mismatch = collector.listing_total_mismatch;
            let _ = write!(html, "; the API states a total that is off by {mismatch}");
        }
        html.push_str("</td></tr>\n");
    }
    html.push_str("</tbody>\n</table>\n");
}

/// Which of several lists could not be read, and how old what is shown of them is.
fn lists_down(html: &mut String, source: &SourceStatus, now: Timestamp) {
    if source.lists_down.is_empty() {
        return;
    }
    html.push_str(
        "<table class=\"lists\">\n<thead><tr><th scope=\"col\">Not listed</th><th scope=\"col\">Reason</th>\
         <th scope=\"col\">Last success</th></tr></thead>\n<tbody>\n",
    );
    for list in source.lists_down.iter().take(MOST_LISTS) {
        let success = list.last_success_time;
        let success = success.map_or_else(|| "never".to_owned(), |success| time(success, now));
        let (name, reason) = (foreign(&list.name, LONGEST_NAME), list.failure.reason);
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\">{name}</th><td><code>{reason}</code></td><td>{success}</td></tr>"
        );
    }
    html.push_str("</tbody>\n</table>\n");
    let more = source.lists_down.len().saturating_sub(MOST_LISTS);
    if more > 0 {
        let _ = writeln!(
            html,
            "<p class=\"quiet\">And {}; <a href=\"./status.json\">all</a>.</p>",
            number(more as u64)
        );
    }
}

fn title(collector: &CollectorState) -> &'static str {
    match collector.collector {
        "repositories" => "Repositories",
        "shared_repositories" => "Shared repositories",
        _ => "Tags",
    }
}

fn next_poll(source: &SourceStatus, now: Timestamp) -> String {
    match source.next_poll_time {
        _ if source.polling => "polling now".to_owned(),
        Some(next) => time(next, now),
        None => "unknown".to_owned(),
    }
}

fn interval(source: &SourceStatus) -> Option<String> {
    source.poll_interval.map(|interval| format!("every {}", amount(interval.as_secs())))
}

fn known(count: Option<u64>) -> String {
    count.map_or_else(|| "unknown".to_owned(), number)
}

fn badge(state: State) -> String {
    format!("<span class=\"state {}\">{}</span>", class(state), state.as_str())
}

/// The class of the style whose colours a state has.
fn class(state: State) -> &'static str {
    match state {
        State::Ok => "good",
        State::Restored | State::Waiting => "wait",
        State::Failing | State::Refused | State::Stale => "bad",
    }
}

//! How the exporter does, for people: the facts that the page `/` and `/status.json` show.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::exposition::page::Pages;
use crate::exposition::{Source, Sources};
use crate::inventory::{SourceName, Timestamp};
use crate::scheduler::{CollectorStatus, ListDown};
use crate::telemetry::self_metrics::{Figures, SelfMetrics, SourceFigures};
use crate::telemetry::{Collector, Reason};

/// The longest error that is shown, in characters: the clouds' own texts in it are cut already, names are not.
const LONGEST_MESSAGE: usize = 1000;

/// All facts. `None`, in JSON `null`, means unknown or not applicable; it is never replaced by 0. Times are in UTC, to
/// the second.
#[derive(Debug, Serialize)]
pub struct Status {
    /// When these facts were put together.
    pub time: Timestamp,
    /// The worst of the sources' states.
    pub state: State,
    /// The exporter's version.
    pub version: &'static str,
    /// The revision it was built from.
    pub revision: &'static str,
    /// When the process started.
    pub start_time: Timestamp,
    /// How long it has been running.
    pub uptime_seconds: u64,
    /// Where the metrics are.
    pub telemetry_path: String,
    /// The configuration in force.
    pub configuration: ConfigurationStatus,
    /// The sources, by name.
    pub sources: Vec<SourceStatus>,
}

/// What is known of the configuration.
#[derive(Debug, Serialize)]
pub struct ConfigurationStatus {
    /// When the one in force was loaded.
    pub load_time: Option<Timestamp>,
    /// Whether the last attempt to load it anew succeeded, the first one included.
    pub last_reload_successful: bool,
}

/// How a source does, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All that was tried last succeeded.
    Ok,
    /// Nothing has been listed since the start; what is served comes from the snapshot.
    Restored,
    /// Nothing has been listed since the start, and nothing is served.
    Waiting,
    /// Something failed; what was read before is still served.
    Failing,
    /// The credential was refused.
    Refused,
    /// What was read became too old and is withdrawn.
    Stale,
}

impl State {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Restored => "restored",
            Self::Waiting => "waiting",
            Self::Failing => "failing",
            Self::Refused => "refused",
            Self::Stale => "stale",
        }
    }
}

/// One source.
#[derive(Debug, Serialize)]
pub struct SourceStatus {
    /// Its name in the configuration.
    pub name: String,
    /// How it does.
    pub state: State,
    /// `swr` or `ncr`.
    pub provider: &'static str,
    /// The cloud's name of the region.
    pub cloud_region: String,
    /// Host, and port if it is not the scheme's own, of the API.
    pub api_host: String,
    /// Whether a poll is under way.
    pub polling: bool,
    /// When the next poll starts; of a poll under way, when it should have started.
    pub next_poll_time: Option<Timestamp>,
    /// From the start of a poll to the start of the next.
    #[serde(rename = "poll_interval_seconds", serialize_with = "seconds")]
    pub poll_interval: Option<Duration>,
    /// Repositories listed, before filters and limits.
    pub listed_repositories: Option<u64>,
    /// Repositories that the filters left, before limits.
    pub repositories: Option<u64>,
    /// Shared repositories that the filters left, before limits.
    pub shared_repositories: Option<u64>,
    /// Tags that `tags` in the configuration chooses, before limits.
    pub tags: Option<u64>,
    /// Repositories whose tags are still to be read.
    pub tag_listings_pending: Option<u64>,
    /// Repositories whose tags could not be read at the last try.
    pub tag_listings_failing: Option<u64>,
    /// Inventory series served.
    pub series: Option<u64>,
    /// Inventory series withheld because of the limit.
    pub series_withheld: Option<u64>,
    /// `series_per_source` as configured; `None` without a limit.
    pub series_limit: Option<u64>,
    /// The calls to the API.
    pub api: ApiStatus,
    /// When the credential in use expires.
    pub credentials_expiry_time: Option<Timestamp>,
    /// One for each collector that the source has, in the order of a poll.
    pub collectors: Vec<CollectorState>,
    /// The organizations, or watched repositories, whose own list could not be read at the last try, by name.
    pub lists_down: Vec<ListState>,
}

/// A list that could not be read, where a source has several.
#[derive(Debug, Serialize)]
pub struct ListState {
    /// The organization, or watched repository.
    pub name: String,
    /// When it was last read; what was read then is served until it is too old.
    pub last_success_time: Option<Timestamp>,
    /// How it failed.
    pub failure: Failure,
}

/// What the calls to a source's API came to since the process started.
#[derive(Debug, Serialize)]
pub struct ApiStatus {
    /// Requests sent.
    pub requests: u64,
    /// Requests that no answer of status 200 to 299 came to.
    pub failed_requests: u64,
    /// Requests that were sent again.
    pub retries: u64,
    /// Answers that said there were too many requests.
    pub throttled: u64,
    /// Time that requests waited for the pace, for `Retry-After` and between retries.
    pub wait_seconds: f64,
    /// This machine's clock minus the API's.
    pub clock_skew_seconds: Option<f64>,
}

/// One collector of a source.
#[derive(Debug, Serialize)]
pub struct CollectorState {
    /// `repositories`, `shared_repositories` or `tags`.
    pub collector: &'static str,
    /// When it last succeeded.
    pub last_success_time: Option<Timestamp>,
    /// The total that the API stated minus the rows that it listed, at the last success.
    pub listing_total_mismatch: i64,
    /// How it failed, unless it succeeded since.
    pub failure: Option<Failure>,
}

/// A failure, and what to do about it.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// When.
    pub time: Timestamp,
    /// Why, in a word of the closed set.
    pub reason: &'static str,
    /// What that word means.
    pub what_happened: &'static str,
    /// What to do.
    pub cure: &'static str,
    /// The error with its causes, cut to 1,000 characters.
    pub message: String,
    /// When a refused credential may be tried again.
    pub next_attempt_time: Option<Timestamp>,
}

impl Status {
    /// The facts as of `now`, `uptime` after the start. Reads what exists already: it asks no API, and its work grows
    /// with the number of sources and of nothing else.
    pub fn new(
        sources: &Sources,
        pages: &Pages,
        metrics: &SelfMetrics,
        telemetry_path: &str,
        now: Timestamp,
        uptime: Duration,
    ) -> Self {
        let Figures { last_reload_successful, config_loaded, sources: mut figures } = metrics.figures();
        let sources: Vec<_> = sources
            .iter()
            .map(|(name, source)| {
                source_status(name, source, pages, &figures.remove(name.as_str()).unwrap_or_default())
            })
            .collect();
        let started = i128::from(now.nanoseconds()) - i128::try_from(uptime.as_nanos()).unwrap_or(0);
        Self {
            time: now,
            state: sources.iter().map(|source| source.state).max().unwrap_or(State::Ok),
            version: env!("CARGO_PKG_VERSION"),
            revision: env!("CRE_REVISION"),
            start_time: Timestamp::from_nanoseconds(started).unwrap_or(now),
            uptime_seconds: uptime.as_secs(),
            telemetry_path: telemetry_path.to_owned(),
            configuration: ConfigurationStatus { load_time: config_loaded, last_reload_successful },
            sources,
        }
    }

    /// As JSON for `/status.json`.
    pub fn json(&self) -> String {
        let json = serde_json::to_string_pretty(self);
        json.expect("there are only texts, numbers and lists of them in it") + "\n"
    }
}

fn source_status(name: &SourceName, source: &Source, pages: &Pages, figures: &SourceFigures) -> SourceStatus {
    let published = source.states.borrow().clone();
    let (status, inventory) = (&published.status, &published.inventory);
    let page = pages.source(name);
    let counts = page.as_ref().map(|page| page.counts);
    let repositories = inventory.repositories.as_ref();
    let reads_tags = status.has(Collector::Tags);
    let withdrawn = |collector: &CollectorStatus| {
        let shown = match collector.collector {
            Collector::SharedRepositories => inventory.shared.is_some(),
            Collector::Repositories | Collector::Tags => repositories.is_some(),
        };
        collector.last_success.is_some() && !shown
    };
    let failures = || status.collectors.iter().filter_map(|collector| collector.failure.as_ref());
    let state = if inventory.up.is_none() {
        if repositories.is_some() { State::Restored } else { State::Waiting }
    } else if status.collectors.iter().any(withdrawn) {
        State::Stale
    } else if failures().any(|failure| failure.reason == Reason::Unauthorized) {
        State::Refused
    } else if failures().next().is_some() {
        State::Failing
    } else {
        State::Ok
    };
    SourceStatus {
        name: name.to_string(),
        state,
        provider: inventory.source.provider,
        cloud_region: inventory.source.cloud_region.clone(),
        api_host: inventory.source.api_host.clone(),
        polling: status.polling,
        next_poll_time: status.next_poll,
        poll_interval: figures.poll_interval,
        listed_repositories: repositories.and_then(|known| known.listed),
        repositories: repositories.map(|known| known.entries.len() as u64),
        shared_repositories: inventory.shared.as_ref().map(|shared| shared.len() as u64),
        tags: counts.map(|counts| counts.tags).filter(|_| reads_tags && repositories.is_some()),
        tag_listings_pending: reads_tags.then_some(status.tags_pending as u64),
        tag_listings_failing: reads_tags.then_some(status.tags_failing as u64),
        series: counts.map(|counts| counts.served.iter().sum()),
        series_withheld: counts.map(|counts| counts.withheld.iter().sum()),
        series_limit: source.series_limit,
        api: ApiStatus {
            requests: figures.requests,
            failed_requests: figures.failed_requests,
            retries: figures.retries,
            throttled: figures.throttled,
            wait_seconds: to_milliseconds(figures.wait_seconds),
            clock_skew_seconds: figures.clock_skew_seconds.map(to_milliseconds),
        },
        credentials_expiry_time: figures.credentials_expiry,
        collectors: status.collectors.iter().map(collector_state).collect(),
        lists_down: status.lists_down.iter().map(list_state).collect(),
    }
}

fn collector_state(status: &CollectorStatus) -> CollectorState {
    CollectorState {
        collector: status.collector.as_str(),
        last_success_time: status.last_success,
        listing_total_mismatch: status.mismatch,
        failure: status.failure.as_ref().map(failure),
    }
}

fn list_state(list: &ListDown) -> ListState {
    let ListDown { name, last_success, failure: of_list } = list;
    ListState {
        name: cut(name, LONGEST_MESSAGE),
        last_success_time: *last_success,
        failure: failure(of_list),
    }
}

fn failure(failure: &crate::scheduler::Failure) -> Failure {
    Failure {
        time: failure.time,
        reason: failure.reason.as_str(),
        what_happened: failure.reason.what_happened(),
        cure: failure.reason.cure(),
        message: cut(&failure.message, LONGEST_MESSAGE),
        next_attempt_time: failure.next_attempt,
    }
}

/// An error of at most `most` characters. What is too much is taken out of its middle: it begins with what was tried and
/// ends with what to do.
pub fn cut(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return text.to_owned();
    }
    let at = |character| text.char_indices().nth(character).map_or(text.len(), |(at, _)| at);
    let begin = most / 3;
    format!("{}…{}", &text[..at(begin)], &text[at(length - (most - begin))..])
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64()).serialize(serializer)
}

fn to_milliseconds(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_cut_in_its_middle_so_that_the_cure_stays() {
        let long = format!("list_tags: GET {} failed; renew the key", "é".repeat(50));
        for most in [30, 40, 60] {
            let short = cut(&long, most);
            assert!(short.starts_with("list_tags") && short.ends_with("renew the key"), "{short}");
            assert_eq!(short.chars().count(), most + 1);
        }
        for most in [long.chars().count(), 1000] {
            assert_eq!(cut(&long, most), long);
        }
    }
}

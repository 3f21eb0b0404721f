//! `[poll]` and `[limits]`: defaults at the top, each key set again below a source.

use std::time::Duration;

use super::duration::write;
use super::value::Table;
use super::{PollConfig, keys};

/// What one `[poll]` table sets.
#[derive(Clone, Default)]
pub(super) struct PollKeys {
    /// Whether an interval is set that cannot be read, so that nothing can be compared with it.
    pub(super) interval_unreadable: bool,
    interval: Option<Duration>,
    timeout: Option<Duration>,
    request_timeout: Option<Duration>,
    stale_after: Option<Duration>,
    requests_per_second: Option<f64>,
    max_concurrent_requests: Option<usize>,
}

/// Reads `[poll]` of `parent`, whose keys win over `defaults`, and checks what results. A source without a table of
/// its own repeats no problem of the defaults.
pub(super) fn read(parent: &Table, defaults: &PollKeys) -> (PollKeys, PollConfig) {
    let table = parent.table("poll", keys::POLL);
    let own_interval = table.duration("interval", SHORTEST_INTERVAL);
    let keys = PollKeys {
        interval_unreadable: own_interval.is_none()
            && (table.has("interval") || defaults.interval_unreadable),
        interval: own_interval.or(defaults.interval),
        timeout: table.duration("timeout", MILLISECOND).or(defaults.timeout),
        request_timeout: table.duration("request_timeout", MILLISECOND).or(defaults.request_timeout),
        stale_after: table.duration("stale_after", MILLISECOND).or(defaults.stale_after),
        requests_per_second: rate(&table).or(defaults.requests_per_second),
        max_concurrent_requests: table
            .integer("max_concurrent_requests", 1..=MOST_REQUESTS)
            .and_then(|n| usize::try_from(n).ok())
            .or(defaults.max_concurrent_requests),
    };
    let interval = keys.interval.unwrap_or(Duration::from_mins(5));
    let config = PollConfig {
        interval,
        timeout: keys.timeout.unwrap_or(interval * 4 / 5),
        request_timeout: keys.request_timeout.unwrap_or(Duration::from_secs(30)),
        stale_after: keys.stale_after.unwrap_or(Duration::from_mins(30).max(interval * 3)),
        requests_per_second: Some(keys.requests_per_second.unwrap_or(10.0)).filter(|rate| *rate > 0.0),
        max_concurrent_requests: keys.max_concurrent_requests.unwrap_or(8),
    };
    if table.is_present() && !keys.interval_unreadable {
        if config.timeout >= interval {
            let (timeout, interval) = (write(config.timeout), write(interval));
            table.problem(
                "timeout",
                format!(
                    "{timeout} must be shorter than the interval, {interval}; shorten it or lengthen the interval"
                ),
            );
        }
        if config.stale_after < interval * 2 {
            let (stale, interval, least) = (write(config.stale_after), write(interval), write(interval * 2));
            table.problem(
                "stale_after",
                format!("{stale} must be at least twice the interval, {interval}; set at least {least}"),
            );
        }
    }
    (keys, config)
}

/// Reads `[limits]` of `parent`: `Some(None)` is no limit, `None` not set here.
#[expect(clippy::option_option, reason = "not set and set to no limit differ, and only for one caller")]
pub(super) fn series_limit(parent: &Table) -> Option<Option<u64>> {
    let limit = parent.table("limits", keys::LIMITS).integer("series_per_source", 0..=u64::MAX)?;
    Some((limit > 0).then_some(limit))
}

/// Below this a poll could not end before the next begins.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// Zero would fail every call.
const MILLISECOND: Duration = Duration::from_millis(1);

/// More connections to one host than this help nobody and look like an attack.
const MOST_REQUESTS: u64 = 256;

fn rate(table: &Table) -> Option<f64> {
    let rate = table.number("requests_per_second")?;
    // The pause between two requests is 1/rate; it must stay a sensible duration.
    if rate == 0.0 || (0.001..=1_000_000.0).contains(&rate) {
        return Some(rate);
    }
    table.problem("requests_per_second", "must be a number from 0.001 to 1000000, or 0 for no pace");
    None
}

//! `rate_limit`: how many requests are answered in a time, whoever asks.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::SignedDuration;

use super::section::Section;

/// A bucket of `burst` tokens, each request taking one; one comes back in each `interval`.
pub(super) struct RateLimit {
    interval: Duration,
    /// The time in which an empty bucket fills up, less one interval.
    tolerance: Duration,
    started: Instant,
    /// When the bucket is full again, as time since `started`.
    full_at: Mutex<Duration>,
}

impl RateLimit {
    /// Reads the section; `None` if requests are not limited.
    pub(super) fn read(section: &Section<'_>, now: Instant) -> Option<Self> {
        let interval = section.text("interval").and_then(|text| duration(section, text));
        let burst = section.text("burst").and_then(|text| {
            let burst = text.parse::<u32>().ok();
            if burst.is_none() {
                section.problem("burst", "must be a whole number from 0 to 4294967295");
            }
            burst
        });
        let interval = interval.filter(|interval| !interval.is_zero())?;
        match burst {
            Some(burst @ 1..) => Some(Self::new(interval, burst, now)),
            // Unreadable: already noted.
            None if section.text("burst").is_some() => None,
            _ => {
                section.problem(
                    "burst",
                    "must be at least 1 with an interval: no request would ever be answered",
                );
                None
            }
        }
    }

    fn new(interval: Duration, burst: u32, now: Instant) -> Self {
        let tolerance = interval.saturating_mul(burst - 1);
        Self { interval, tolerance, started: now, full_at: Mutex::default() }
    }

    /// Whether it limits as `other` does.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.interval, self.tolerance) == (other.interval, other.tolerance)
    }

    /// Takes a token; `false` if there is none.
    pub(super) fn allows(&self, now: Instant) -> bool {
        let now = now.saturating_duration_since(self.started);
        // A number, which no panic can leave half-written.
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full = (*full_at).max(now);
        let allows = full.saturating_sub(now) <= self.tolerance;
        if allows {
            *full_at = full.saturating_add(self.interval);
        }
        allows
    }
}

/// A duration as Go writes it, such as `1s` or `1m30s`.
fn duration(section: &Section<'_>, text: &str) -> Option<Duration> {
    let duration = match text {
        "0" => Some(Duration::ZERO),
        _ => text.parse::<SignedDuration>().ok().and_then(|duration| duration.try_into().ok()),
    };
    if duration.is_none() {
        section.problem("interval", "must be a duration such as 1s or 500ms; 0 turns the limit off");
    }
    duration
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_request_per_interval() {
        let start = Instant::now();
        let limit = RateLimit::new(Duration::from_secs(1), 3, start);
        let at = |milliseconds| limit.allows(start + Duration::from_millis(milliseconds));
        assert!(at(0) && at(0) && at(0));
        assert!(!at(0) && !at(999));
        assert!(at(1000));
        assert!(!at(1500));
        // Never more than the burst, however long it was quiet.
        assert!(at(60_000) && at(60_000) && at(60_000));
        assert!(!at(60_000));
    }

    #[test]
    fn no_setting_makes_the_clock_overflow() {
        let limit = RateLimit::new(Duration::MAX, u32::MAX, Instant::now());
        assert!(limit.allows(Instant::now()) && limit.allows(Instant::now()));
    }
}

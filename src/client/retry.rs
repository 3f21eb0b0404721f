//! Whether to try again, and when.

use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use super::error::Cause;

/// Retries per request.
const RETRIES: usize = 3;
/// The first delay; each further one is twice as long, plus up to as much again by chance, so that clients that
/// failed together do not come back together.
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// No delay is longer, unless the API asks for it.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// However long an API asks to wait, the next attempt comes after this time: what asks for more is down, and may be
/// up again sooner than it thinks.
const LONGEST_ASKED: Duration = Duration::from_mins(5);

/// The delays before the retries of one request.
pub fn delays() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY)
        .with_max_times(RETRIES)
        .with_jitter()
        .build()
}

/// How long to wait before the next attempt: the next of `delays`, or longer where the API asks for it. `None` if
/// another attempt does not help or `delays` has ended.
pub fn delay(cause: &Cause, delays: &mut ExponentialBackoff) -> Option<Duration> {
    let asked = match cause {
        Cause::Connect(_) | Cause::Cut | Cause::Timeout(_) => None,
        Cause::Refused { refusal, retry_after } if refusal.retry => *retry_after,
        _ => return None,
    };
    delays.next().map(|delay| asked.map_or(delay, |asked| asked.max(delay)))
}

/// The time that `Retry-After` asks for, in either of its forms, counted from `now`; five minutes at most.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let asked = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => http_date(value)?.duration_since(now).unwrap_or_default(),
    };
    Some(asked.min(LONGEST_ASKED))
}

/// This machine's clock minus the answer's `Date`, in seconds.
pub fn clock_skew(headers: &HeaderMap, now: SystemTime) -> Option<f64> {
    let date = http_date(headers.get(DATE)?.to_str().ok()?)?;
    Some(match now.duration_since(date) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(behind) => -behind.duration().as_secs_f64(),
    })
}

/// A date as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(text: &str) -> Option<SystemTime> {
    let zoned = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(zoned.into())
}

#[cfg(test)]
mod tests {
    use super::super::error::{Refusal, Verdict};
    use super::*;
    use crate::telemetry::Reason;

    fn refused(retry: bool, retry_after: Option<Duration>) -> Cause {
        let credential = Verdict::Unknown;
        let refusal = Refusal {
            status: 429,
            reason: Reason::Throttled,
            code: None,
            message: None,
            cure: None,
            retry,
            credential,
        };
        Cause::Refused { refusal, retry_after }
    }

    #[test]
    fn gives_up_after_three_retries_of_bounded_length() {
        let mut delays = delays();
        for _ in 0..RETRIES {
            let delay = delay(&refused(true, None), &mut delays).unwrap();
            assert!(delay >= FIRST_DELAY && delay <= 2 * LONGEST_DELAY, "{delay:?}");
        }
        assert_eq!(delay(&refused(true, None), &mut delays), None);
    }

    #[test]
    fn waits_as_long_as_the_api_asks_for() {
        let asked = Duration::from_secs(77);
        assert_eq!(delay(&refused(true, Some(asked)), &mut delays()), Some(asked));
    }

    #[test]
    fn does_not_repeat_what_a_repetition_cannot_mend() {
        assert_eq!(delay(&refused(false, None), &mut delays()), None);
        assert_eq!(delay(&Cause::TooLarge(1), &mut delays()), None);
    }

    #[test]
    fn the_clock_is_ahead_or_behind() {
        let headers = HeaderMap::from_iter([(DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap())]);
        let skew = |now: &str| clock_skew(&headers, http_date(now).unwrap()).unwrap().round().to_string();
        assert_eq!(skew("Sun, 06 Nov 1994 08:50:37 GMT"), "60");
        assert_eq!(skew("Sun, 06 Nov 1994 08:48:37 GMT"), "-60");
    }

    #[test]
    fn reads_both_forms_of_retry_after() {
        let now = http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let read =
            |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]), now);
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
    }

    #[test]
    fn waits_no_longer_than_five_minutes_whatever_the_api_asks_for() {
        for value in ["301", "3600", "18446744073709551615", "Wed, 30 Dec 9998 23:59:59 GMT"] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            let asked = retry_after(&headers, SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(asked, Duration::from_mins(5), "{value}");
            let delay = delay(&refused(true, Some(asked)), &mut delays());
            assert_eq!(delay, Some(Duration::from_mins(5)), "{value}");
        }
    }
}

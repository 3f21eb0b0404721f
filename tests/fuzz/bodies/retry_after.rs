//! `Retry-After` in both of its forms, and the dates of HTTP.

use std::time::{Duration, Instant, SystemTime};

use container_registry_exporter::client::retry::{http_date, retry_after};
use jiff::fmt::rfc2822::DateTimePrinter;
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};

/// A date is read as it would be written, and no clock overflows when it is moved by what an API asks for.
pub fn run(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    let asked = retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now);
    if let Some(asked) = asked {
        assert!(Instant::now().checked_add(asked).is_some(), "{asked:?}");
        assert!(now.checked_add(asked).is_some(), "{asked:?}");
    }
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(seconds) = text.parse::<u32>()
        && seconds < 1000
    {
        assert_eq!(asked, Some(Duration::from_secs(seconds.into())));
    }
    if let Some(date) = http_date(text) {
        let timestamp = jiff::Timestamp::try_from(date).expect("it was one");
        if let Ok(written) = DateTimePrinter::new().timestamp_to_rfc9110_string(&timestamp) {
            assert_eq!(http_date(&written), Some(date), "{written}");
        }
    }
}

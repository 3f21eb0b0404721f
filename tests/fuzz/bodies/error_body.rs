//! Answers of either cloud that are no success. The input is the status in digits, a line break, and the body.

use container_registry_exporter::client::Refusal;
use container_registry_exporter::provider::{ncr, swr};
use container_registry_exporter::telemetry::Reason;

/// Secrets of the request that failed: seeds repeat them in their bodies. The first is what a password may look like.
const SECRETS: [&str; 3] = ["Pass\"wörd\\1", "MIIEowIBAAKCAQEAtoken", "MIIEowIBAAKCAQEAtoken-signed"];
/// The longest text that is kept, in characters, with the mark that it was cut.
const LONGEST: usize = 301;

/// A refusal keeps its status, is short, is one line, and repeats no secret in any form.
pub fn run(data: &[u8]) {
    let Some(line) = data.iter().position(|byte| *byte == b'\n') else { return };
    let (status, body) = (&data[..line], &data[line + 1..]);
    let Some(status) = str::from_utf8(status).ok().and_then(|status| status.parse().ok()) else { return };
    for classify in [swr::wire::classify, ncr::wire::classify] {
        let refusal = classify(status, body);
        assert_eq!(refusal, classify(status, body));
        check(status, &refusal);
        let cleaned = refusal.clone().clean(&SECRETS);
        assert_eq!((cleaned.reason, cleaned.retry), (refusal.reason, refusal.retry));
        for text in [&cleaned.code, &cleaned.message].into_iter().flatten() {
            assert!(text.chars().count() <= LONGEST, "{text}");
        }
        let shown = cleaned.to_string();
        assert!(!shown.contains(char::is_control), "{shown:?}");
        for secret in SECRETS {
            let escaped = serde_json::to_string(secret).unwrap_or_default();
            for secret in [secret, escaped.trim_matches('"')] {
                assert!(!texts(&cleaned).any(|text| text.contains(secret)), "{cleaned:?}");
            }
        }
    }
}

fn check(status: u16, refusal: &Refusal) {
    assert_eq!(refusal.status, status);
    assert!(texts(refusal).all(|text| !text.is_empty()));
    match refusal.reason {
        Reason::Throttled => assert!(refusal.retry),
        Reason::Server => assert!(status >= 500),
        Reason::Unauthorized => assert!(status == 401 && !refusal.retry),
        Reason::Forbidden | Reason::NotFound | Reason::Protocol | Reason::Timeout => assert!(!refusal.retry),
        other => panic!("a refusal is never {other:?}"),
    }
}

fn texts(refusal: &Refusal) -> impl Iterator<Item = &String> {
    [&refusal.code, &refusal.message].into_iter().flatten()
}

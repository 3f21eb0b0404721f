//! Answers of the services that hand out temporary keys.

use container_registry_exporter::inventory::Timestamp;
use container_registry_exporter::provider::temporary::answer::{NoKey, key};
use container_registry_exporter::provider::temporary::metadata::classify;
use secrecy::ExposeSecret as _;

/// A whole key that has not ended, or an error that shows nothing of the answer but what the service says of itself.
pub fn run(data: &[u8]) {
    let now = Timestamp::from_milliseconds(1_700_000_000_000).expect("it is not 0");
    match key(data.to_vec(), now) {
        Ok(leased) => {
            assert!(!leased.value.access_key.expose_secret().is_empty());
            assert!(!leased.value.secret_key.expose_secret().is_empty());
            assert!(leased.value.security_token.is_none_or(|token| !token.expose_secret().is_empty()));
            assert!(leased.expires.is_none_or(|end| end > now));
        }
        Err(error) => {
            let shown = error.to_string();
            assert!(!shown.contains(char::is_control), "{shown:?}");
            if !matches!(error, NoKey::Failed(_)) {
                assert!(!shown.contains("hunter2"), "{shown}");
            }
        }
    }
    let refusal = classify(401, data).clean(&[]);
    assert!(refusal.message.is_none_or(|message| !message.is_empty() && message.chars().count() <= 301));
}

//! Addresses to listen on and durations, as a user writes them.

use std::time::Duration;

use container_registry_exporter::config::duration;
use container_registry_exporter::server::ListenAddress;

/// What is read and written is read again as the same.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(address) = text.parse::<ListenAddress>() {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
    if let Some(time) = duration::parse(text) {
        assert!(time <= Duration::from_hours(24 * 3650));
        assert_eq!(duration::parse(&duration::write(time)), Some(time));
    }
}

//! `Content-Range` as SWR writes it.

use container_registry_exporter::provider::swr::wire::content_range_total;

/// A total is the number behind the last slash, whatever stands before it.
pub fn run(data: &[u8]) {
    let Ok(value) = str::from_utf8(data) else { return };
    let total = content_range_total(value);
    let behind = value.rsplit_once('/').map(|(_, behind)| behind);
    let digits = behind.filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    assert_eq!(total, digits.and_then(|digits| digits.parse().ok()));
    if let Some(total) = total {
        assert_eq!(content_range_total(&format!("{value}/{total}")), Some(total));
    }
}

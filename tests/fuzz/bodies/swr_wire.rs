//! Every answer of SWR and of Huawei Cloud's IAM that is a success.

use container_registry_exporter::inventory::{Center, Tag};
use container_registry_exporter::provider::swr::wire;

use super::json::{decode, rewritten};

/// Rows have names, and neither spaces nor escapes in the JSON make a difference.
pub fn run(body: &[u8]) {
    let rewritten = rewritten(body);
    let rewritten = rewritten.as_slice();
    if let Some(answer) = decode(body, rewritten, |b| wire::repositories(b).ok()) {
        assert!(answer.rows.iter().all(|row| !row.organization.is_empty() && !row.name.is_empty()));
        assert!(answer.total.is_none() || !answer.rows.is_empty());
    }
    for center in [Center::Own, Center::ThirdParty] {
        if let Some(answer) = decode(body, rewritten, |b| wire::shared_repositories(b, center).ok()) {
            assert!(answer.rows.iter().all(|row| !row.organization.is_empty() && !row.name.is_empty()));
            assert!(answer.rows.iter().all(|row| row.valid.is_none() || center == Center::ThirdParty));
        }
    }
    let tags = decode(body, rewritten, |b| wire::tags(b, true).ok());
    let without_info = tags.map(|tags| {
        assert!(tags.iter().all(|tag| !tag.name.is_empty() && tag.info.is_some()));
        tags.into_iter().map(|tag| Tag { info: None, ..tag }).collect()
    });
    assert_eq!(wire::tags(body, false).ok(), without_info);
    if let Some(shown) = decode(body, rewritten, |b| wire::repository(b, "group", "team/app").ok()) {
        assert_eq!((&*shown.organization, &*shown.name), ("group", "team/app"));
    }
    decode(body, rewritten, |b| wire::token_expiry(b).ok());
}

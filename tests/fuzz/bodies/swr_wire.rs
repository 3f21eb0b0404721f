//! Every answer of SWR and of Huawei Cloud's IAM that is a success.

use container_registry_exporter::inventory::{Center, Tag};
use container_registry_exporter::provider::swr::wire::{self, Rows};

use super::json::{decode, rewritten, value};
use serde_json::Value;

/// Rows have names, no answer without the sign of a list is taken for one, and neither spaces nor escapes in the JSON make a difference.
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
        assert!(tags.rows.iter().all(|tag| !tag.name.is_empty() && tag.info.is_some()));
        Rows { rows: tags.rows.into_iter().map(|tag| Tag { info: None, ..tag }).collect(), ..tags }
    });
    assert_eq!(wire::tags(body, false).ok(), without_info);
    if let Some(shown) = decode(body, rewritten, |b| wire::repository(b, "group", "team/app").ok()) {
        assert_eq!(shown.rows.len(), 1);
        assert_eq!((&*shown.rows[0].organization, &*shown.rows[0].name), ("group", "team/app"));
    }
    decode(body, rewritten, |b| wire::token_expiry(b).ok());
    // Only a list of objects is a list, or `null`, which has no rows.
    let Some(value) = value(body) else { return };
    let listed = match value {
        Value::Null => Some(0),
        Value::Array(rows) => rows.iter().all(Value::is_object).then_some(rows.len()),
        _ => None,
    };
    for rows in [
        wire::repositories(body).map(|answer| answer.rows.len()),
        wire::shared_repositories(body, Center::Own).map(|answer| answer.rows.len()),
        wire::tags(body, true).map(|answer| answer.rows.len()),
    ] {
        assert!(rows.is_err() || rows.ok() == listed);
    }
}

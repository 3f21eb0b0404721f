//! Every answer of NCR that is a success.

use container_registry_exporter::inventory::Tag;
use container_registry_exporter::provider::ncr::wire::{self, Page};

use super::json::{decode, rewritten, value};
use serde_json::Value;

/// Rows have names, no answer without the sign of a list is taken for one, page 0 never follows, and neither spaces nor escapes in the JSON make a difference.
pub fn run(body: &[u8]) {
    let rewritten = rewritten(body);
    let rewritten = rewritten.as_slice();
    let mut shapes = Vec::new();
    if let Some(page) = decode(body, rewritten, |b| wire::registries(b).ok()) {
        assert!(page.rows.iter().all(|row| !row.name.is_empty()));
        assert!(page.rows.iter().all(|row| row.end_point.as_deref() != Some("")));
        shapes.push((page.rows.len(), page.count, page.next));
    }
    if let Some(page) = decode(body, rewritten, |b| wire::images(b, "registry", "host").ok()) {
        assert!(page.rows.iter().all(|row| *row.organization == *"registry" && !row.name.is_empty()));
        assert!(page.rows.iter().all(|row| row.image == Some(format!("host/{}", row.name).into())));
        shapes.push((page.rows.len(), page.count, page.next));
    }
    let tags = decode(body, rewritten, |b| wire::tags(b, true).ok());
    let without_info = tags.map(|page| {
        assert!(page.rows.iter().all(|tag| !tag.name.is_empty() && tag.info.is_some()));
        shapes.push((page.rows.len(), page.count, page.next));
        let rows = page.rows.into_iter().map(|tag| Tag { info: None, ..tag }).collect();
        Page { rows, count: page.count, next: page.next, unreadable: page.unreadable }
    });
    assert_eq!(wire::tags(body, false).ok(), without_info);
    // The envelope means the same whatever the rows are.
    assert!(shapes.windows(2).all(|two| two[0] == two[1]), "{shapes:?}");
    assert!(shapes.iter().all(|(_, _, next)| *next != Some(0)));
    // Only an object with `results`, a list of objects or `null`, is a list.
    let Some(value) = value(body) else { return };
    let listed = match value.get("results") {
        Some(Value::Null) => Some(0),
        Some(Value::Array(rows)) => rows.iter().all(Value::is_object).then_some(rows.len()),
        _ => None,
    };
    assert!(shapes.iter().all(|(rows, _, _)| Some(*rows) == listed), "{shapes:?}");
}

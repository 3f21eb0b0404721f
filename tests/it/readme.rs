//! The README names what there is, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use container_registry_exporter::exposition::families::FAMILIES;
use container_registry_exporter::telemetry::Reason;
use regex::Regex;
use serde_json::Value;

use crate::server::serve;

fn readme() -> String {
    fs::read_to_string("README.md").unwrap()
}

/// All that a regular expression's first group finds.
pub fn all(pattern: &str, text: &str) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).unwrap();
    pattern.captures_iter(text).map(|captures| captures[1].to_owned()).collect()
}

/// The exporter's own families. Those of which no series exists are not gathered, so they are read from the table that
/// makes them: a name, then a help text.
fn own_families() -> BTreeSet<String> {
    let table = fs::read_to_string("src/telemetry/self_metrics.rs").unwrap();
    let mut names = all(r#""([a-z_]+)",\s+"[A-Z]"#, &table);
    names.extend(all(r#"let name = "([a-z_]+)";"#, &table));
    // The fields of the table's struct, and `build_info`, which needs none.
    let fields = table.split("struct Families {").nth(1).unwrap().split('}').next().unwrap();
    assert_eq!(names.len(), fields.trim().lines().count() + 1, "{names:?}");
    names.into_iter().map(|name| format!("container_registry_exporter_{name}")).collect()
}

/// The names of all families that the exporter can have, but `process_*`.
pub fn families() -> BTreeSet<String> {
    let mut families = own_families();
    families.extend(FAMILIES.iter().map(|family| family.name.to_owned()));
    families
}

#[test]
fn the_metrics_table_is_complete_and_names_nothing_else() {
    let families = families();
    let rows = all(r"(?m)^\| `(container_registry_[a-z_]+)` \|", &readme());
    assert_eq!(rows, families);
    for name in all(r"\b(container_registry_[a-z_]+)", &readme()) {
        assert!(families.contains(&name), "{name}");
    }
}

#[test]
fn every_reason_has_a_row_in_their_order_with_the_texts_of_the_front_page() {
    let text = readme();
    let start = text.find("| Reason |").expect("the table of reasons");
    let table = text[start..].split("\n\n").next().unwrap();
    let link = Regex::new(r"\[([^]]*)\]\([^)]*\)").unwrap();
    let rows: Vec<_> =
        table.lines().skip(2).map(|row| link.replace_all(row, "$1").replace('`', "")).collect();
    let row = |r: Reason| format!("| {} | {} | {} |", r.as_str(), r.what_happened(), r.cure());
    assert_eq!(rows, Reason::ALL.map(row));
}

#[test]
fn every_key_of_the_example_is_explained() {
    let example = fs::read_to_string("config.example.toml").unwrap();
    let keys = all(r"(?:^|\n#?|[{,] )([a-z_]+) = ", &example);
    assert!(keys.len() > 40, "{keys:?}");
    let text = readme();
    for key in keys {
        assert!(text.contains(&format!("`{key}`")), "{key}");
    }
}

/// The paths of all fields of `value`, which is at `path`; of a list, those of its first element.
fn fields(value: &Value, path: &str) -> BTreeSet<String> {
    match value {
        Value::Object(object) => object
            .iter()
            .flat_map(|(key, value)| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                fields(value, &path)
            })
            .collect(),
        Value::Array(list) => fields(&list[0], &format!("{path}[]")),
        _ => BTreeSet::from([path.to_owned()]),
    }
}

#[tokio::test]
async fn every_field_of_the_status_is_explained() {
    let fixture = serve(Instant::now()).await;
    fixture.fail("a", Reason::Connect, "");
    let status = fixture.get("/status.json").await;
    let mut fields = fields(&serde_json::from_slice(&status.body).unwrap(), "");
    fields.insert("sources[].collectors[].failure".to_owned());
    let text = readme();
    let table = text.split("| Field |").nth(1).unwrap().split("\n\n").next().unwrap();
    let names: Vec<_> = table.lines().skip(2).filter_map(|row| row.split('|').nth(1)).collect();
    assert_eq!(all("`([^`]+)`", &names.concat()), fields);
}

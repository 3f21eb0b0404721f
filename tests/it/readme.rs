//! The README and the pages it leads to name what there is, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use container_registry_exporter::exposition::families::FAMILIES;
use container_registry_exporter::telemetry::Reason;
use regex::Regex;
use serde_json::Value;

use crate::server::serve;

fn readme() -> String {
    fs::read_to_string("README.md").unwrap()
}

/// The pages for users: path and text.
fn pages() -> Vec<(PathBuf, String)> {
    let docs = fs::read_dir("docs").unwrap().map(|entry| entry.unwrap().path());
    let docs = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let others = ["README.md", "benches/README.md", "deploy/README.md", "deploy/prometheus/runbooks.md"];
    let paths = docs.chain(others.map(PathBuf::from));
    paths.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    let mut links = 0;
    for (page, text) in pages() {
        for link in all(r"\]\(([^)]+)\)", &text).iter().filter(|link| !link.starts_with("http")) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link}", page.display());
            if !heading.is_empty() {
                let text = fs::read_to_string(target).unwrap();
                let headings = all("(?m)^#+ (.+)$", &text);
                assert!(headings.iter().any(|h| anchor(h) == heading), "{}: {link}", page.display());
            }
            links += 1;
        }
    }
    assert!(links > 40, "{links}");
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
    // The fields of the table's struct, and `build_info` and the log's lines, which need none.
    let fields = table.split("struct Families {").nth(1).unwrap().split('}').next().unwrap();
    assert_eq!(names.len(), fields.trim().lines().count() + 2, "{names:?}");
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
    for page in ["README.md", "docs/http.md", "docs/polling.md", "docs/configuration.md"] {
        for name in all(r"\b(container_registry_[a-z_]+)", &fs::read_to_string(page).unwrap()) {
            assert!(families.contains(&name), "{page}: {name}");
        }
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
    let text = fs::read_to_string("docs/configuration.md").unwrap() + &readme();
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
        Value::Array(list) => {
            list.first().map_or_else(BTreeSet::new, |first| fields(first, &format!("{path}[]")))
        }
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
    // There is none, and its failure is like that of a collector.
    let of_lists = ["name", "last_success_time", "failure"];
    fields.extend(of_lists.map(|field| format!("sources[].lists_down[].{field}")));
    let text = fs::read_to_string("docs/http.md").unwrap();
    let table = text.split("| Field |").nth(1).unwrap().split("\n\n").next().unwrap();
    let names: Vec<_> = table.lines().skip(2).filter_map(|row| row.split('|').nth(1)).collect();
    assert_eq!(all("`([^`]+)`", &names.concat()), fields);
}

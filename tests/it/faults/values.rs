//! Optional values that are not what the API documents: they cost themselves, and nothing else.

use serde_json::{Value, json};

use super::*;

/// What a field may hold in place of a number, a text or a flag.
fn odd_values() -> [Value; 7] {
    [json!("many"), json!({"a": [1]}), json!([null]), json!(true), json!(1.5), json!(-1.5), json!(1e300)]
}

/// Rows with this value in one of their optional fields each, or in all.
fn world_of_odd_rows(value: &Value) -> World {
    let mut world = world();
    let all =
        |fields: &[&str]| fields.iter().map(|field| ((*field).to_owned(), Some(value.clone()))).collect();
    for repository in world.swr.repositories.values_mut().chain(world.swr.shared_with_me.values_mut()) {
        repository.overrides = all(&[
            "size",
            "is_public",
            "num_images",
            "num_download",
            "created_at",
            "updated_at",
            "path",
            "category",
            "tags",
            "status",
            "total_range",
            "domain_name",
        ]);
        repository.show_overrides = all(&[
            "size",
            "is_public",
            "num_images",
            "num_download",
            "created",
            "updated",
            "path",
            "category",
        ]);
        for tag in &mut repository.tags {
            tag.overrides = all(&["digest", "size", "created", "updated", "tag_type"]);
        }
    }
    for registry in world.ncr.registries.values_mut() {
        registry.overrides = all(&["end_point"]);
        for image in registry.images.values_mut() {
            image.overrides = all(&["pull_count", "last_updated", "last_update"]);
            for tag in &mut image.tags {
                tag.overrides = all(&["digest", "full_size", "last_updated", "images"]);
            }
        }
    }
    world
}

#[tokio::test]
async fn rows_whose_optional_values_are_all_odd_stay_and_the_values_are_counted() {
    for value in odd_values() {
        let simulator = simulator(world_of_odd_rows(&value)).await;
        for (config, rows, tags) in [
            (swr(&simulator, ALL_TAGS), 2.0, 2.0),
            (swr(&simulator, &format!("watch = [\"group/app\", \"group/web\"]\n{ALL_TAGS}")), 2.0, 2.0),
            (ncr(&simulator, ALL_TAGS), 2.0, 2.0),
        ] {
            let mut exporter = Exporter::new(&config);
            assert!(exporter.poll().await, "{value}: {}", exporter.everything_shown());
            assert_eq!(exporter.sum("source_repositories", ""), rows, "{value}");
            assert_eq!(exporter.sum("exporter_tag_listings_total", ""), tags, "{value}");
            let unreadable =
                |field: &str| exporter.sum("exporter_unreadable_values_total", &format!("field=\"{field}\""));
            assert!(unreadable("tag_size_bytes") >= 2.0, "{value}");
            assert!(unreadable("repository_downloads") >= 2.0, "{value}");
            assert!(unreadable("repository_updated_timestamp_seconds") >= 2.0, "{value}");
            assert_eq!(exporter.sum("tag_size_bytes", ""), 0.0, "{value}");
            assert_eq!(exporter.sum("repository_downloads", ""), 0.0, "{value}");
        }
    }
}

#[tokio::test]
async fn a_number_that_is_written_as_text_is_the_same_number() {
    let simulator = simulator(world_of_odd_rows(&json!("1711928488000"))).await;
    for config in [swr(&simulator, ALL_TAGS), ncr(&simulator, ALL_TAGS)] {
        let mut exporter = Exporter::new(&config);
        assert!(exporter.poll().await);
        assert_eq!(exporter.sum("repository_downloads", "repository=\"app\""), 1_711_928_488_000.0);
        let field = "field=\"repository_downloads\"";
        assert_eq!(exporter.sum("exporter_unreadable_values_total", field), 0.0);
    }
}

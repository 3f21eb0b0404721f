//! What is withheld when a source has more series than its limit allows.

use std::sync::Arc;

use container_registry_exporter::exposition::limit::{Selection, select};
use container_registry_exporter::inventory::{Entry, Inventory, Repositories, Repository};
use proptest::prelude::*;

use super::inventories::{any_inventory, info, sample};
use super::{parser, render, text};

/// The series of the source and of organizations, then those of repositories, shared ones and tags.
fn served(selection: &Selection) -> (u64, u64) {
    let [source, organization, rest @ ..] = selection.counts().served;
    (source + organization, rest.iter().sum())
}

proptest! {
    #[test]
    fn serves_at_most_the_limit_unless_source_and_organizations_alone_exceed_it(
        first in any_inventory(), second in any_inventory(), limit in 0..120_u64
    ) {
        let mut selection = Selection::default();
        for inventory in [&first, &second] {
            selection = select(inventory, Some(limit), &selection);
            let (fixed, rest) = served(&selection);
            prop_assert!(fixed + rest <= limit || rest == 0);
        }
    }

    #[test]
    fn counts_what_the_page_has(inventory in any_inventory(), limit in 0..120_u64) {
        let selection = select(&inventory, Some(limit), &Selection::default());
        let on_page = parser::parse(&text(&render(&inventory, &selection, None))).len() as u64;
        prop_assert_eq!(on_page, selection.counts().served.iter().sum::<u64>());
        let without_limit = select(&inventory, None, &Selection::default()).counts();
        let both = selection.counts().served.iter().chain(&selection.counts().withheld).sum::<u64>();
        prop_assert_eq!(both, without_limit.served.iter().sum::<u64>());
        prop_assert_eq!(without_limit.withheld, [0; 5]);
    }

    #[test]
    fn an_unchanged_inventory_gives_an_unchanged_selection(
        before in any_inventory(), inventory in any_inventory(), limit in 0..120_u64
    ) {
        let before = select(&before, Some(limit), &Selection::default());
        let first = select(&inventory, Some(limit), &before);
        let second = select(&inventory, Some(limit), &first);
        prop_assert_eq!(names(&first), names(&second));
        prop_assert_eq!(first.counts(), second.counts());
    }
}

fn names(selection: &Selection) -> Vec<String> {
    let repositories = selection.repositories().map(|entry| entry.repository.name.to_string());
    repositories.chain(selection.shared().map(|shared| shared.name.to_string())).collect()
}

/// Repositories of 3 series each (size, last push is absent, downloads, info) and the source's 2.
fn repositories(sizes: &[(&str, Option<u64>, u64)]) -> Inventory {
    let entry = |(name, size_bytes, downloads): &(&str, Option<u64>, u64)| Entry {
        repository: Arc::new(Repository {
            name: (*name).into(),
            size_bytes: *size_bytes,
            downloads: Some(*downloads),
            ..Repository::default()
        }),
        tags: None,
    };
    let mut entries: Vec<_> = sizes.iter().map(entry).collect();
    entries.sort_by(|a, b| a.repository.name.cmp(&b.repository.name));
    let repositories = Repositories { listed: Some(0), measured: true, organizations: None, entries };
    Inventory {
        source: info("swr-test"),
        up: None,
        organizations_up: Vec::new(),
        repositories: Some(Arc::new(repositories)),
        shared: None,
    }
}

#[test]
fn withholds_the_smallest_first_and_of_equals_the_first_by_name() {
    let sized = repositories(&[("a", Some(5), 9), ("b", Some(5), 9), ("c", Some(9), 0), ("d", None, 99)]);
    assert_eq!(names(&select(&sized, Some(2 + 8), &Selection::default())), ["b", "c"]);
}

#[test]
fn without_sizes_withholds_the_least_downloaded_first() {
    let downloaded = repositories(&[("a", None, 1), ("b", None, 3), ("c", None, 2)]);
    assert_eq!(names(&select(&downloaded, Some(2 + 4), &Selection::default())), ["b", "c"]);
}

#[test]
fn one_that_is_in_stays_in_when_a_larger_one_comes() {
    let small = repositories(&[("a", Some(1), 0), ("b", Some(2), 0)]);
    let before = select(&small, Some(2 + 6), &Selection::default());
    let larger = repositories(&[("a", Some(1), 0), ("b", Some(2), 0), ("c", Some(3), 0)]);
    let after = select(&larger, Some(2 + 6), &before);
    assert_eq!(names(&after), ["a", "b"]);
    let gone = repositories(&[("a", Some(1), 0), ("c", Some(3), 0)]);
    assert_eq!(names(&select(&gone, Some(2 + 6), &after)), ["a", "c"]);
}

#[test]
fn tags_shrink_before_repositories_are_withheld_and_grow_again_below_the_limit() {
    // 10 repositories have 80 series, each further tag per repository 50; 28 are the source's, its organizations'
    // and the shared ones'.
    let inventory = sample("a", 10, 5);
    let all = select(&inventory, None, &Selection::default()).counts();
    assert_eq!((all.served[2], all.served[4]), (80, 250));
    let above_tags: u64 = all.served[..4].iter().sum();
    let tags = |limit, previous: &Selection| select(&inventory, Some(limit), previous);
    let shrunk = tags(above_tags + 249, &Selection::default());
    assert_eq!((shrunk.counts().served[4], shrunk.counts().withheld), (200, [0, 0, 0, 0, 50]));
    // All would fit, but only just.
    let kept = tags(above_tags + 250, &shrunk);
    assert_eq!(kept.counts().served[4], 200);
    let limit = (above_tags + 250) * 10 / 9 + 1;
    assert_eq!(tags(limit, &kept).counts().served[4], 250);
}

#[test]
fn shared_repositories_are_withheld_before_ones_own() {
    let inventory = sample("a", 10, 5);
    let all = select(&inventory, None, &Selection::default()).counts().served;
    let fixed = all[0] + all[1];
    let selection = select(&inventory, Some(fixed + all[2]), &Selection::default());
    assert_eq!(selection.counts().served, [all[0], all[1], all[2], 0, 0]);
    let selection = select(&inventory, Some(fixed + all[2] + all[3] - 1), &Selection::default());
    assert_eq!((selection.counts().withheld[2], selection.counts().withheld[3] > 0), (0, true));
    let selection = select(&inventory, Some(fixed + all[2] - 1), &Selection::default());
    assert_eq!((selection.counts().withheld[2] > 0, selection.counts().served[3]), (true, 0));
    let selection = select(&inventory, Some(0), &Selection::default());
    assert_eq!(selection.counts().served, [all[0], all[1], 0, 0, 0]);
}

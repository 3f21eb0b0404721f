//! The page: complete, exact, without repetition, in both formats and both encodings.

mod expected;
pub mod inventories;
pub mod parser;
mod withholding;

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use container_registry_exporter::exposition::limit::{Selection, select};
use container_registry_exporter::exposition::live::Live;
use container_registry_exporter::exposition::negotiate::Format;
use container_registry_exporter::exposition::page::{Frames, Page};
use container_registry_exporter::exposition::source_page::{SourcePage, render};
use container_registry_exporter::inventory::{Inventory, Repositories, SourceName};
use container_registry_exporter::telemetry::Collector;
use container_registry_exporter::telemetry::self_metrics::SelfMetrics;
use flate2::read::GzDecoder;
use proptest::prelude::*;

use crate::program::promtool_check_metrics;
use inventories::{any_inventory, sample};

fn rendered(inventory: &Inventory, previous: Option<&SourcePage>) -> SourcePage {
    render(inventory, &select(inventory, None, &Selection::default()), previous)
}

fn bytes(frames: &Frames) -> Vec<u8> {
    let all = (0..).map_while(|index| frames.get(index)).flatten().copied().collect::<Vec<u8>>();
    assert_eq!(all.len() as u64, frames.length());
    all
}

/// The exporter's own metrics of a source called `swr-test`.
fn live() -> Live {
    let metrics = SelfMetrics::new();
    let name = SourceName::new("swr-test").unwrap();
    let source = metrics.source(&name, &[Collector::Repositories, Collector::Tags], Duration::from_mins(5));
    source.request("list_repositories", Some(200), Duration::from_millis(70));
    Live::new(metrics)
}

/// The inventory's part of the page, without the exporter's own metrics.
fn text(page: &SourcePage) -> String {
    let nothing = live().piece(Format::Text, Some(&[]), Instant::now());
    String::from_utf8(bytes(&Page::join(&[page]).text(&nothing))).unwrap()
}

proptest! {
    #[test]
    fn a_page_parses_back_to_exactly_the_series_of_the_inventory(inventory in any_inventory()) {
        let page = text(&rendered(&inventory, None));
        prop_assert_eq!(parser::parse(&page), expected::expected(&inventory));
    }

    #[test]
    fn gzip_is_one_member_of_the_same_text(inventory in any_inventory(), open_metrics in any::<bool>()) {
        let format = if open_metrics { Format::OpenMetrics } else { Format::Text };
        let live = live().piece(format, None, Instant::now());
        let page = Page::join(&[&rendered(&inventory, None)]);
        let member = bytes(&page.gzip(&live));
        let mut decoder = GzDecoder::new(member.as_slice());
        let mut decoded = Vec::new();
        decoder.read_to_end(&mut decoded).unwrap();
        prop_assert!(decoder.into_inner().is_empty());
        prop_assert_eq!(decoded, bytes(&page.text(&live)));
    }

    #[test]
    fn the_same_inventory_gives_the_same_bytes(inventory in any_inventory()) {
        let first = rendered(&inventory, None);
        prop_assert_eq!(text(&rendered(&inventory, None)), text(&first));
        prop_assert_eq!(text(&rendered(&inventory, Some(&first))), text(&first));
    }
}

#[test]
fn a_page_of_several_sources_has_each_family_once() {
    let (a, b) = (rendered(&sample("a", 3, 2), None), rendered(&sample("b", 2, 1), None));
    let page = Page::join(&[&a, &b]);
    let whole = bytes(&page.text(&live().piece(Format::Text, None, Instant::now())));
    let samples = parser::parse(std::str::from_utf8(&whole).unwrap());
    let of = |source: &str| {
        samples
            .keys()
            .filter(|(name, labels)| {
                !name.contains("_exporter_") && labels.get("source").is_some_and(|s| s == source)
            })
            .count()
    };
    assert_eq!(
        (of("a"), of("b")),
        (expected::expected(&sample("a", 3, 2)).len(), expected::expected(&sample("b", 2, 1)).len())
    );
}

#[test]
fn a_new_repository_leaves_all_pieces_but_those_near_it_as_they_were() {
    let mut inventory = sample("a", 4000, 5);
    let before = rendered(&inventory, None);
    let mut repositories = Repositories::clone(inventory.repositories.as_deref().unwrap());
    let mut new = repositories.entries[2000].clone();
    Arc::make_mut(&mut new.repository).name = "team/app-01999-new".into();
    repositories.entries.insert(2000, new);
    inventory.repositories = Some(Arc::new(repositories));
    let after = rendered(&inventory, Some(&before));
    let frames = |page: &SourcePage| {
        let frames = Page::join(&[page]).text(&live().piece(Format::Text, Some(&[]), Instant::now()));
        // Large frames are the pieces themselves, the others are copies.
        let large = (0..).map_while(|index| frames.get(index)).filter(|frame| frame.len() > 70_000);
        large.map(|frame| frame.as_ptr().addr()).collect::<BTreeSet<_>>()
    };
    let (before, after) = (frames(&before), frames(&after));
    // 26 families, of which 13 change.
    let new = after.difference(&before).count();
    assert!(after.len() > 60 && new <= 20, "{new} of {} pieces are new", after.len());
}

#[tokio::test]
async fn promtool_finds_nothing_to_say_about_the_page() {
    let page = rendered(&sample("swr-test", 3, 2), None);
    let page = Page::join(&[&page]).text(&live().piece(Format::Text, None, Instant::now()));
    assert_eq!(promtool_check_metrics(&bytes(&page)).await, "");
}

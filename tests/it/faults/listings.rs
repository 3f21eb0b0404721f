//! Pages that are well-formed and do not make a whole.

use super::*;

/// The calls that answer page by page.
const LISTINGS: [Call; 6] = [
    Call::ListRepositories,
    Call::ListShared,
    Call::ListTags,
    Call::ListRegistries,
    Call::ListImages,
    Call::ListImageTags,
];

/// What is wrong with a listing whose pages are all well-formed: the reason that it gives, or the difference to the
/// stated total with which it is believed.
fn bad_listings() -> Vec<(Result<i64, &'static str>, Fault)> {
    let as_total = |total: &str| (Ok(0), Fault::TotalAs(total.to_owned()));
    vec![
        (Err("incomplete"), Fault::RepeatPage),
        (Err("incomplete"), Fault::ShiftWhilePaging),
        (Ok(3), Fault::WrongTotal(3)),
        (Ok(-8), Fault::WrongTotal(-8)),
        (Ok(-25), Fault::WrongTotal(-25)),
        (Ok(0), Fault::NoTotal),
        (Err("incomplete"), Fault::NoRows),
        // What only checks a listing cannot fail it.
        as_total("\"many\""),
        as_total("25.5"),
        as_total("18446744073709551616"),
        (Ok(0), Fault::ByteOrderMark),
    ]
}

/// Both clouds with three pages of everything; the first of each has further pages below it.
fn world_of_pages() -> World {
    const ROWS: usize = 25;
    let mut world = World::empty();
    world.swr.limit_refused_above = 10;
    world.ncr.page_size_refused_above = 10;
    for row in 0..ROWS {
        let name = format!("row-{row:02}");
        world.swr.add(Repository::new("group", &name));
        world.swr.add_shared_with_me(Repository::new("partner", &name));
        world.ncr.add(Registry::new(&name));
    }
    let repository = world.swr.repositories.get_mut("group/row-00").unwrap();
    repository.tags = (0..ROWS).map(|row| Tag::new(&format!("tag-{row:02}"), 7)).collect();
    // As many registries as rows elsewhere would make a `count` of theirs one that may stand beside no rows.
    world.ncr.add(Registry::new("row-99"));
    let registry = world.ncr.registries.get_mut("row-00").unwrap();
    for row in 0..ROWS {
        registry.images.insert(format!("row-{row:02}"), Image::new(&format!("row-{row:02}")));
    }
    registry.images.get_mut("row-00").unwrap().tags =
        (0..ROWS).map(|row| ImageTag::new(&format!("tag-{row:02}"), 7)).collect();
    world
}

/// The repository or registry whose list of this call has three pages, where it is not the only list.
fn long_list(call: Call) -> Option<&'static str> {
    match call {
        Call::ListTags => Some("group/row-00"),
        Call::ListImages => Some("row-00"),
        Call::ListImageTags => Some("row-00/row-00"),
        _ => None,
    }
}

/// Keys of a source that reads all tags in each poll, and no shared repositories unless they are what is tested.
fn more_keys(call: Call) -> String {
    let shared = match call {
        Call::ListShared => "shared = [\"thirdparty\"]\n",
        Call::ListRepositories | Call::ListTags => "shared = []\n",
        _ => "",
    };
    format!("{shared}{ALL_TAGS}")
}

/// One poll without the fault, one with it, one without, where everything has three pages.
async fn bad_listing(call: Call, expected: Result<i64, &str>, fault: Fault) {
    let simulator = simulator(world_of_pages()).await;
    let config = source(&simulator, call, &more_keys(call));
    let mut exporter = Exporter::new(&config);
    assert!(exporter.poll().await, "the first poll");
    let before = exporter.inventory();

    let collector = place(call).0;
    let in_force = simulator.fault(call, fault);
    if let Some(key) = long_list(call) {
        in_force.repository(key);
    }
    let succeeded = exporter.poll().await;
    let failures = exporter.sum("exporter_poll_failures_total", "");
    let tag_failures = exporter.sum("exporter_tag_listing_failures_total", "");
    let mismatch = exporter.sum("exporter_listing_total_mismatch", collector.as_str());
    let up = exporter.sum("up", "source=");
    match expected {
        Ok(difference) => {
            assert!(succeeded);
            #[expect(clippy::cast_precision_loss, reason = "it is a small number")]
            let difference = difference as f64;
            assert_eq!((failures, tag_failures, mismatch, up), (0.0, 0.0, difference, 1.0));
            assert_eq!(exporter.inventory(), before);
        }
        Err(reason) if collector == Collector::Tags => {
            assert!(succeeded);
            let of_reason = format!("reason=\"{reason}\"");
            assert_eq!((failures, tag_failures, up), (0.0, 1.0, 1.0));
            assert_eq!(exporter.sum("exporter_tag_listing_failures_total", &of_reason), 1.0);
            assert_eq!(exporter.inventory(), before);
        }
        Err(reason) => {
            assert!(!succeeded);
            assert_eq!((failures, tag_failures), (1.0, 0.0));
            assert_eq!(exporter.failure(collector).unwrap().reason.as_str(), reason);
            assert_eq!(up, if collector == Collector::Repositories { 0.0 } else { 1.0 });
            let without_up = |page: &str| page.lines().filter(|line| !line.contains("_up{")).count();
            assert_eq!(without_up(&exporter.inventory()), without_up(&before));
        }
    }

    // The world has changed where rows shifted: healed is what an exporter sees that knows nothing else.
    simulator.clear_faults();
    assert!(exporter.poll().await);
    let mut fresh = Exporter::new(&config);
    assert!(fresh.poll().await);
    assert_eq!(exporter.inventory(), fresh.inventory());
    assert_eq!(exporter.sum("exporter_listing_total_mismatch", ""), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_listing_fails_or_is_believed_after_two_equal_walks() {
    let mut cells = Vec::new();
    for call in LISTINGS {
        for (expected, fault) in bad_listings() {
            cells.push((format!("{call:?} {fault:?}"), bad_listing(call, expected, fault)));
        }
    }
    assert_eq!(cells.len(), 6 * 11);
    run(cells).await;
}

/// One row goes and another comes while pages are read: every page states the same total and as many keys are found,
/// so nothing in the listing tells that a row slipped between two pages.
#[tokio::test]
async fn a_row_that_slips_through_a_list_of_the_right_length_is_back_with_the_next_poll() {
    for call in LISTINGS {
        let simulator = simulator(world_of_pages()).await;
        let config = source(&simulator, call, &more_keys(call));
        let mut exporter = Exporter::new(&config);
        assert!(exporter.poll().await, "{call:?}"); // finds the page size
        let fault = simulator.fault(call, Fault::ShiftByLuck).times(1);
        if let Some(key) = long_list(call) {
            fault.repository(key);
        }
        // The registry that goes cannot be asked for its images any more.
        assert_eq!(exporter.poll().await, call != Call::ListRegistries, "{call:?}");
        let mut fresh = Exporter::new(&config);
        assert!(fresh.poll().await);
        assert_ne!(exporter.inventory(), fresh.inventory(), "{call:?}");
        assert!(exporter.poll().await, "{call:?}");
        assert_eq!(exporter.inventory(), fresh.inventory(), "{call:?}");
    }
}

/// The cap of rows, which takes a minute to reach here, has its test beside the walk.
#[tokio::test]
async fn a_listing_without_end_ends_with_the_poll_at_the_latest() {
    let mut world = world();
    world.latency = Duration::from_millis(10);
    let simulator = simulator(world).await;
    let mut exporter = Exporter::new(&swr(&simulator, "shared = []\ntags = { enabled = false }"));
    assert!(exporter.poll().await);
    simulator.fault(Call::ListRepositories, Fault::EndlessPages);
    assert!(!exporter.poll_within(Duration::from_secs(1)).await);
    assert_eq!(exporter.failure(Collector::Repositories).unwrap().reason.as_str(), "timeout");
    assert_eq!(exporter.number("source_repositories{source=\"swr\"}"), 2.0);
    assert_eq!(exporter.value("up{source=\"swr\"}").as_deref(), Some("0"));
}

#[tokio::test]
async fn a_listing_that_lies_about_its_total_is_read_twice() {
    let simulator = simulator(world()).await;
    let mut exporter = Exporter::new(&swr(&simulator, "shared = []\ntags = { enabled = false }"));
    simulator.fault(Call::ListRepositories, Fault::WrongTotal(-1));
    assert!(exporter.poll().await);
    let asked = targets(&simulator, Call::ListRepositories);
    assert_eq!(asked.iter().filter(|target| target.ends_with("&offset=0")).count(), 2, "{asked:?}");
    assert_eq!(exporter.number("source_repositories{source=\"swr\"}"), 2.0);
}

#[tokio::test]
async fn a_repository_that_is_listed_twice_is_shown_once_and_counted() {
    let mut world = world();
    let twin = world.swr.repositories.get_mut("group/web").unwrap();
    twin.overrides.insert("name".to_owned(), Some("app".into()));
    let simulator = simulator(world).await;
    let mut exporter = Exporter::new(&swr(&simulator, "shared = []\ntags = { enabled = false }"));
    assert!(exporter.poll().await);
    assert_eq!(exporter.number("exporter_duplicates_total{source=\"swr\"}"), 1.0);
    assert_eq!(exporter.number("source_repositories{source=\"swr\"}"), 1.0);
    assert_eq!(exporter.sum("exporter_listing_total_mismatch", "collector=\"repositories\""), 1.0);
    // `value` would panic over a series that is there twice.
    let size = "repository_size_bytes{source=\"swr\",organization=\"group\",repository=\"app\"}";
    assert!(exporter.value(size).is_some());
}

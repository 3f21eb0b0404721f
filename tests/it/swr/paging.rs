//! Page sizes, page ends and totals.

use serde_json::json;

use super::*;

#[tokio::test]
async fn reads_2500_repositories_in_three_calls() {
    let simulator = simulator(world_of(2500)).await;
    let exporter = polled(&simulator, ONLY_REPOSITORIES).await;
    assert_eq!(
        targets(&simulator, Call::ListRepositories),
        [0, 1000, 2000].map(|offset| format!("/v2/manage/repos?limit=1000&offset={offset}"))
    );
    assert_eq!(simulator.all_requests(), 3);
    assert_eq!(listed(&exporter), 2500.0);
    assert_eq!(exporter.sum("organization_repositories", "group"), 2500.0);
    assert_eq!(exporter.sum("repository_public", "app-2499"), 0.0);
    assert!(
        exporter
            .value("repository_images{source=\"swr\",organization=\"group\",repository=\"app-2499\"}")
            .is_some()
    );
}

#[tokio::test]
async fn reads_a_listing_whose_last_page_is_full_without_asking_behind_it() {
    let simulator = simulator(world_of(2000)).await;
    let exporter = polled(&simulator, ONLY_REPOSITORIES).await;
    assert_eq!((simulator.all_requests(), listed(&exporter)), (2, 2000.0));
}

#[tokio::test]
async fn reads_tags_in_pages_of_100() {
    let mut repository = Repository::new("group", "app");
    repository.tags = (0..250).map(|number| Tag::new(&format!("v{number}"), number)).collect();
    let mut world = World::empty();
    world.swr.add(repository);
    let simulator = simulator(world).await;
    let exporter = polled(&simulator, "shared = []\ntags = { newest = \"all\" }").await;
    let path = "/v2/manage/namespaces/group/repos/app/tags";
    assert_eq!(
        targets(&simulator, Call::ListTags),
        [0, 100, 200].map(|offset| format!("{path}?limit=100&offset={offset}"))
    );
    assert_eq!(exporter.sum("tag_size_bytes", ""), 31_125.0);
    assert_eq!(exporter.number("exporter_tag_listings_total{source=\"swr\"}"), 1.0);
}

#[tokio::test]
async fn a_refused_page_size_is_replaced_by_a_smaller_one_and_not_asked_for_again() {
    let mut world = world_of(150);
    world.swr.limit_refused_above = 100;
    let simulator = simulator(world).await;
    let mut exporter = polled(&simulator, ONLY_REPOSITORIES).await;
    assert_eq!(listed(&exporter), 150.0);
    let asked = |limit, offset| format!("/v2/manage/repos?limit={limit}&offset={offset}");
    assert_eq!(targets(&simulator, Call::ListRepositories), [asked(1000, 0), asked(100, 0), asked(100, 100)]);
    simulator.clear_log();
    assert!(exporter.poll().await);
    assert_eq!(targets(&simulator, Call::ListRepositories), [asked(100, 0), asked(100, 100)]);
}

#[tokio::test]
async fn pages_that_are_shorter_than_asked_lose_no_row() {
    for rows_per_page in [100, 50, 10] {
        let mut world = world_of(130);
        world.swr.rows_per_page_at_most = rows_per_page;
        let repository = world.swr.repositories.get_mut("group/app-0000").unwrap();
        repository.tags = (0..130).map(|number| Tag::new(&format!("v{number}"), 1)).collect();
        let simulator = simulator(world).await;
        let exporter = polled(&simulator, "shared = []\ntags = { newest = \"all\" }").await;
        assert_eq!(listed(&exporter), 130.0, "{rows_per_page}");
        assert_eq!(exporter.sum("tag_size_bytes", ""), 130.0, "{rows_per_page}");
        assert_eq!(exporter.sum("exporter_listing_total_mismatch", ""), 0.0);
        assert!(simulator.log().iter().all(|exchange| exchange.status == Some(200)));
    }
}

#[tokio::test]
async fn a_page_that_is_too_large_is_asked_for_in_smaller_ones() {
    for (call, first, then) in
        [(Call::ListRepositories, "limit=1000", "limit=100&"), (Call::ListTags, "limit=100", "limit=10&")]
    {
        let simulator = simulator(world_of(1)).await;
        simulator.fault(call, Fault::HugeBody).times(1);
        polled(&simulator, "shared = []").await;
        let targets = targets(&simulator, call);
        assert_eq!(targets.len(), 2);
        assert!(targets[0].contains(first) && targets[1].contains(then), "{targets:?}");
    }
}

#[tokio::test]
async fn believes_the_header_before_the_rows_and_the_rows_before_nothing() {
    // Rows that state a total of their own.
    let mut world = world_of(3);
    for repository in world.swr.repositories.values_mut() {
        repository.overrides.insert("total_range".to_owned(), Some(json!(4)));
    }
    let simulator = simulator(world).await;
    let mismatch = |exporter: &Exporter| exporter.sum("exporter_listing_total_mismatch", "");
    let exporter = polled(&simulator, ONLY_REPOSITORIES).await;
    assert_eq!((simulator.all_requests(), mismatch(&exporter)), (1, 0.0));

    // No header: now theirs counts, and does not fit.
    simulator.fault(Call::ListRepositories, Fault::NoTotal);
    let exporter = polled(&simulator, ONLY_REPOSITORIES).await;
    assert_eq!((listed(&exporter), mismatch(&exporter)), (3.0, 1.0));

    // Neither: a short page is the end.
    simulator.edit(|world| {
        for repository in world.swr.repositories.values_mut() {
            repository.overrides.clear();
        }
    });
    simulator.clear_log();
    let exporter = polled(&simulator, ONLY_REPOSITORIES).await;
    assert_eq!((simulator.all_requests(), listed(&exporter), mismatch(&exporter)), (1, 3.0, 0.0));
}

#[tokio::test]
async fn without_a_total_a_full_last_page_is_followed_by_an_empty_one() {
    let simulator = simulator(world_of(2000)).await;
    simulator.fault(Call::ListRepositories, Fault::NoTotal);
    let exporter = polled(&simulator, ONLY_REPOSITORIES).await;
    assert_eq!((simulator.all_requests(), listed(&exporter)), (3, 2000.0));
}

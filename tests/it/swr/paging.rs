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
async fn reads_a_listing_whose_last_page_is_full_to_an_empty_page() {
    let simulator = simulator(world_of(2000)).await;
    let exporter = polled(&simulator, ONLY_REPOSITORIES).await;
    assert_eq!((simulator.all_requests(), listed(&exporter)), (3, 2000.0));
    // It states no more than it had on its first page.
    simulator.fault(Call::ListRepositories, Fault::WrongTotal(-1000));
    let exporter = polled(&simulator, ONLY_REPOSITORIES).await;
    assert_eq!(listed(&exporter), 2000.0);
    assert_eq!(exporter.sum("exporter_listing_total_mismatch", ""), -1000.0);
}

/// A list of exactly one full page.
#[tokio::test]
async fn a_page_past_the_end_takes_no_repository_and_no_tag_away() {
    for past_the_end in
        [PastTheEnd::EmptyPage, PastTheEnd::Status(400), PastTheEnd::Status(404), PastTheEnd::Status(416)]
    {
        for fault in [None, Some(Fault::NoTotal), Some(Fault::WrongTotal(-100)), Some(Fault::WrongTotal(1))] {
            let mut world = world_of(100);
            world.swr.limit_refused_above = 100;
            world.swr.past_the_end = past_the_end;
            let repository = world.swr.repositories.get_mut("group/app-0000").unwrap();
            repository.tags = (0..100).map(|number| Tag::new(&format!("v{number}"), 1)).collect();
            let simulator = simulator(world).await;
            for call in [Call::ListRepositories, Call::ListTags] {
                if let Some(fault) = &fault {
                    simulator.fault(call, fault.clone());
                }
            }
            let known = matches!(fault, None | Some(Fault::NoTotal)) || past_the_end == PastTheEnd::EmptyPage;
            let more =
                "shared = []\ntags = { newest = \"all\" }\nrepositories = { include = [\".*/app-0000\"] }";
            let mut exporter = Exporter::new(&swr(&simulator, more));
            let case = format!("{past_the_end:?} {fault:?}");
            assert_eq!(exporter.poll().await, known, "{case}");
            if known {
                assert_eq!(exporter.sum("tag_size_bytes", ""), 100.0, "{case}");
                assert_eq!(listed(&exporter), 100.0, "{case}");
            } else {
                let failure = exporter.failure(Collector::Repositories).unwrap();
                assert_eq!(failure.reason.as_str(), "incomplete", "{case}");
            }
        }
    }
}

#[tokio::test]
async fn capped_pages_without_a_total_lose_no_row() {
    for rows_per_page in [100, 50, 7] {
        let mut world = world_of(130);
        world.swr.rows_per_page_at_most = rows_per_page;
        let repository = world.swr.repositories.get_mut("group/app-0000").unwrap();
        repository.tags = (0..130).map(|number| Tag::new(&format!("v{number}"), 1)).collect();
        let simulator = simulator(world).await;
        for call in [Call::ListRepositories, Call::ListTags] {
            simulator.fault(call, Fault::NoTotal);
        }
        let exporter = polled(&simulator, "shared = []\ntags = { newest = \"all\" }").await;
        assert_eq!(listed(&exporter), 130.0, "{rows_per_page}");
        assert_eq!(exporter.sum("tag_size_bytes", ""), 130.0, "{rows_per_page}");
        assert!(simulator.log().iter().all(|exchange| exchange.status == Some(200)));
    }
}

#[tokio::test]
async fn no_rows_against_a_total_take_nothing_away_however_often() {
    let simulator = simulator(world_of(30)).await;
    let mut exporter = polled(&simulator, ONLY_REPOSITORIES).await;
    simulator.fault(Call::ListRepositories, Fault::NoRows);
    for _ in 0..3 {
        assert!(!exporter.poll().await);
        assert_eq!(exporter.failure(Collector::Repositories).unwrap().reason.as_str(), "incomplete");
        assert_eq!(listed(&exporter), 30.0);
    }
}

#[tokio::test]
async fn bad_seconds_and_bad_repositories_shrink_no_other_pages() {
    let mut world = world_of(2);
    for repository in world.swr.repositories.values_mut() {
        repository.tags = (0..30).map(|number| Tag::new(&format!("v{number}"), 1)).collect();
    }
    let simulator = simulator(world).await;
    let mut exporter = Exporter::new(&swr(&simulator, &format!("shared = []\n{ALL_TAGS}")));
    for status in [400, 422] {
        for call in [Call::ListRepositories, Call::ListTags] {
            let fault = simulator.fault(call, Fault::status(status));
            let fault = if call == Call::ListTags { fault.repository("group/app-0000") } else { fault };
            exporter.poll().await;
            fault.end();
            simulator.clear_log();
            assert!(exporter.poll().await);
            let sizes = ["repos?limit=1000&", "app-0000/tags?limit=100&", "app-0001/tags?limit=100&"];
            let asked = simulator.log().into_iter().map(|exchange| exchange.target).collect::<Vec<_>>();
            assert!(sizes.iter().all(|size| asked.iter().any(|target| target.contains(size))), "{asked:?}");
        }
    }
}

#[tokio::test]
async fn a_total_that_is_off_by_one_shrinks_no_pages() {
    let simulator = simulator(world_of(150)).await;
    simulator.fault(Call::ListRepositories, Fault::WrongTotal(1));
    let mut exporter = polled(&simulator, ONLY_REPOSITORIES).await;
    for _ in 0..3 {
        simulator.clear_log();
        assert!(exporter.poll().await);
        let asked = targets(&simulator, Call::ListRepositories);
        assert_eq!(asked[0], "/v2/manage/repos?limit=1000&offset=0");
        assert!(asked.len() <= 4, "{asked:?}");
        assert_eq!(exporter.sum("exporter_listing_total_mismatch", ""), 1.0);
    }
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
        let mut world = world_of(1);
        world.swr.repositories.get_mut("group/app-0000").unwrap().tags.push(Tag::new("v1", 7));
        let simulator = simulator(world).await;
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

    // Neither: a short page is the end if nothing follows.
    simulator.edit(|world| {
        for repository in world.swr.repositories.values_mut() {
            repository.overrides.clear();
        }
    });
    simulator.clear_log();
    let exporter = polled(&simulator, ONLY_REPOSITORIES).await;
    assert_eq!((simulator.all_requests(), listed(&exporter), mismatch(&exporter)), (2, 3.0, 0.0));
}

#[tokio::test]
async fn without_a_total_a_full_last_page_is_followed_by_an_empty_one() {
    let simulator = simulator(world_of(2000)).await;
    simulator.fault(Call::ListRepositories, Fault::NoTotal);
    let exporter = polled(&simulator, ONLY_REPOSITORIES).await;
    assert_eq!((simulator.all_requests(), listed(&exporter)), (3, 2000.0));
}

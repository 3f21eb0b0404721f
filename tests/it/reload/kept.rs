//! What a reload keeps: all that a source knows, as long as it reads the same things.

use container_registry_exporter::exposition;
use container_registry_exporter::simulator::{AccessKey, Tag};

use super::*;

/// A source that has read the tags of its three repositories, each with three tags.
struct Scene {
    simulator: Simulator,
    metrics: SelfMetrics,
    sources: RunningSources,
}

impl Scene {
    async fn new() -> Self {
        let mut world = World::empty();
        for name in ["a", "b", "c"] {
            let repository = Repository::new("group", name);
            let tags = [Tag::new("v1", 1), Tag::new("v2", 2), Tag::new("beta", 3)];
            world.swr.add(tags.into_iter().fold(repository, Repository::with_tag));
        }
        world.swr.access_keys.push(AccessKey::new("OTHERKEY", "other-secret"));
        let simulator = Simulator::start(world).await.unwrap();
        let (metrics, text) = (SelfMetrics::new(), swr(&simulator, "kept", ""));
        let mut sources = RunningSources::new(metrics.clone());
        reload(&mut sources, &text).await.unwrap();
        let scene = Self { simulator, metrics, sources };
        scene.polled(1).await;
        assert_eq!(scene.simulator.requests(Call::ListTags), 3);
        scene
    }

    fn source(&self) -> exposition::Source {
        self.sources.shown.borrow().values().next().unwrap().clone()
    }

    /// Waits until so many polls have ended.
    async fn polled(&self, polls: u64) {
        let mut states = self.source().states;
        let listed = |polls| self.simulator.requests(Call::ListRepositories) >= polls;
        states.wait_for(|state| !state.status.polling && listed(polls)).await.unwrap();
    }

    /// The names of the tags shown, repository by repository.
    fn tags(&self) -> Vec<String> {
        let state = self.source().states.borrow().clone();
        tags(&state.inventory)
    }
}

fn tags(inventory: &container_registry_exporter::inventory::Inventory) -> Vec<String> {
    let Some(repositories) = &inventory.repositories else { return Vec::new() };
    let names = |entry: &container_registry_exporter::inventory::Entry| {
        let newest = entry.tags.iter().flat_map(|tags| tags.newest.iter());
        let mut names: Vec<&str> = newest.map(|tag| &*tag.name).collect();
        names.sort_unstable();
        names.join(" ")
    };
    repositories.entries.iter().map(names).collect()
}

#[tokio::test]
async fn a_reload_of_how_and_how_much_keeps_every_series_and_reads_no_tag_again() {
    let mut scene = Scene::new().await;
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/web/authority.pem");
    let ca = format!("tls = {{ ca_file = \"{ca}\" }}");
    let before = scene.source().states;
    let mut polls = 1;
    for more in [
        "poll = { interval = \"7m\" }",
        "poll = { timeout = \"9s\", request_timeout = \"8s\", stale_after = \"40m\" }",
        "poll = { requests_per_second = 0, max_concurrent_requests = 1 }",
        "limits = { series_per_source = 5000 }",
        "tags = { newest = 9 }",
        "tags = { newest = \"all\", info = true }",
        "tags = { full_sweep = \"48h\" }",
        "iam_endpoint = \"http://127.0.0.1:1\"",
        "proxy_url = \"http://127.0.0.1:1\"",
        &ca,
        "",
    ] {
        let mut text = swr(&scene.simulator, "kept", more);
        if more.contains("newest = 9") {
            text =
                text.replace(keys::SWR_ACCESS_KEY, "OTHERKEY").replace(keys::SWR_SECRET_KEY, "other-secret");
        }
        reload(&mut scene.sources, &text).await.unwrap();
        polls += 1;
        // Everything that is published meanwhile is whole.
        let mut states = scene.source().states;
        assert!(before.same_channel(&states), "{more}");
        loop {
            let state = states.borrow_and_update().clone();
            assert_eq!(state.inventory.up, Some(true), "{more}");
            assert_eq!(tags(&state.inventory), ["beta v1 v2"; 3], "{more}");
            if !state.status.polling && scene.simulator.requests(Call::ListRepositories) >= polls {
                break;
            }
            states.changed().await.unwrap();
        }
        assert_eq!(scene.simulator.requests(Call::ListTags), 3, "{more}");
    }
    assert_eq!(scene.source().series_limit, Some(200_000));
    let refused = scene
        .simulator
        .log()
        .into_iter()
        .filter(|exchange| exchange.status.is_some_and(|status| status != 200))
        .count();
    assert_eq!(refused, 0);
}

#[tokio::test]
async fn equal_settings_in_other_words_change_nothing() {
    let mut scene = Scene::new().await;
    let text = swr(&scene.simulator, "kept", "tags = { newest = 5 }");
    let text = format!("# a comment\n{}{text}", ncr(&scene.simulator, "another"));
    let before = scene.sources.shown.borrow().values().next().unwrap().states.clone();
    reload(&mut scene.sources, &text).await.unwrap();
    listed(&scene.sources, "another").await;
    let shown = scene.sources.shown.borrow().values().last().unwrap().states.clone();
    assert!(before.same_channel(&shown));
    assert_eq!(scene.simulator.requests(Call::ListRepositories), 1);
}

#[tokio::test]
async fn fewer_tags_are_shown_at_once_and_more_when_their_turn_comes() {
    let mut scene = Scene::new().await;
    for (more, shown) in [
        ("tags = { exclude = [\"beta\"] }", "v1 v2"),
        // All were pushed at the same time, so that the first by name counts as the newest.
        ("tags = { exclude = [\"beta\"], newest = 1 }", "v1"),
        // What was dropped is read again in the full sweep.
        ("", "v1"),
    ] {
        let hang = scene
            .simulator
            .fault(Call::ListRepositories, container_registry_exporter::simulator::Fault::Hang);
        reload(&mut scene.sources, &swr(&scene.simulator, "kept", more)).await.unwrap();
        let mut states = scene.source().states;
        states.wait_for(|state| tags(&state.inventory) == [shown; 3]).await.unwrap();
        hang.end();
    }
    let lists = scene.simulator.requests(Call::ListRepositories);
    let text = swr(&scene.simulator, "kept", "poll = { interval = \"7m\" }");
    reload(&mut scene.sources, &text).await.unwrap();
    scene.polled(lists + 1).await;
    assert_eq!(scene.tags(), ["v1"; 3]);
    assert_eq!(scene.simulator.requests(Call::ListTags), 3);
}

#[tokio::test]
async fn tags_that_are_switched_off_go_with_their_collector_and_come_back_with_it() {
    let mut scene = Scene::new().await;
    assert_eq!(series(&scene.metrics, "polls_total", "kept"), 2);
    reload(&mut scene.sources, &swr(&scene.simulator, "kept", "tags = { enabled = false }")).await.unwrap();
    scene.polled(2).await;
    assert_eq!(scene.tags(), [""; 3]);
    for family in ["tag_listings_total", "tag_listings_pending", "tag_listing_failures_total"] {
        assert_eq!(series(&scene.metrics, family, "kept"), 0, "{family}");
    }
    for family in ["polls_total", "poll_last_success_timestamp_seconds", "poll_duration_seconds"] {
        assert_eq!(series(&scene.metrics, family, "kept"), 1, "{family}");
    }
    reload(&mut scene.sources, &swr(&scene.simulator, "kept", "")).await.unwrap();
    let mut states = scene.source().states;
    states.wait_for(|state| tags(&state.inventory) == ["beta v1 v2"; 3]).await.unwrap();
    assert_eq!(series(&scene.metrics, "polls_total", "kept"), 2);
}

#[tokio::test]
async fn what_reads_other_things_starts_anew() {
    let mut scene = Scene::new().await;
    for more in [
        "organizations = [\"group\"]",
        "repositories = { exclude = [\"group/c\"] }",
        "project_name = \"other\"",
    ] {
        let before = scene.source().states;
        reload(&mut scene.sources, &swr(&scene.simulator, "kept", more)).await.unwrap();
        assert!(!before.same_channel(&scene.source().states), "{more}");
        listed(&scene.sources, "kept").await;
    }
    // As does what is no longer read with what is.
    let before = scene.source().states;
    let text = swr(&scene.simulator, "kept", "").replace("shared = []", "shared = [\"self\"]");
    reload(&mut scene.sources, &text).await.unwrap();
    assert!(!before.same_channel(&scene.source().states));
}

#[tokio::test]
async fn nothing_of_a_source_that_is_gone_comes_back() {
    let mut scene = Scene::new().await;
    let late = scene.source().metrics;
    reload(&mut scene.sources, &ncr(&scene.simulator, "other")).await.unwrap();
    // As of a page that was being rendered.
    late.series([1; 5], [0; 5], 1);
    late.last_success(
        container_registry_exporter::telemetry::Collector::Tags,
        std::time::SystemTime::now().into(),
    );
    for family in ["series", "series_limit", "poll_last_success_timestamp_seconds", "polls_total"] {
        assert_eq!(series(&scene.metrics, family, "kept"), 0, "{family}");
    }
    // Nor when another one takes its name.
    reload(&mut scene.sources, &ncr(&scene.simulator, "kept")).await.unwrap();
    assert_eq!(series(&scene.metrics, "series_limit", "kept"), 0);
}

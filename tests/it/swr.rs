//! Polls of a simulated SWR: what is asked for, how, and what comes of it.

mod paging;

use super::support::{ALL_TAGS, Exporter, exchanges, simulator, swr, swr_with, swr_with_password, targets};
use container_registry_exporter::simulator::{
    Call, ErrorBody, ErrorShape, Fault, PastTheEnd, Repository, Simulator, Tag, World, keys,
};
use container_registry_exporter::telemetry::Collector;

/// Nothing but the list of repositories.
const ONLY_REPOSITORIES: &str = "shared = []\ntags = { enabled = false }";

/// So many repositories `group/app-NNNN` without tags.
fn world_of(repositories: usize) -> World {
    let mut world = World::empty();
    for number in 0..repositories {
        world.swr.add(Repository::new("group", &format!("app-{number:04}")));
    }
    world
}

/// Repositories in organizations whose names contain each other.
fn world_of_teams() -> World {
    let mut world = World::empty();
    for (organization, name) in
        [("team", "api"), ("team", "web"), ("team-b", "api"), ("steam", "engine"), ("other", "tool")]
    {
        world.swr.add(Repository::new(organization, name).with_tag(Tag::new("v1", 100)));
    }
    world
}

async fn polled(simulator: &Simulator, more: &str) -> Exporter {
    let mut exporter = Exporter::new(&swr(simulator, more));
    assert!(exporter.poll().await, "{}", exporter.everything_shown());
    exporter
}

fn listed(exporter: &Exporter) -> f64 {
    exporter.number("source_repositories{source=\"swr\"}")
}

#[tokio::test]
async fn every_request_names_limit_and_offset_and_a_content_type() {
    let mut world = world_of(3);
    for repository in world.swr.repositories.values_mut() {
        repository.tags = (0..250).map(|number| Tag::new(&format!("v{number}"), 1)).collect();
    }
    let simulator = simulator(world).await;
    polled(&simulator, "").await;
    let log = simulator.log();
    assert_eq!(log.len(), 1 + 2 + 3 * 3);
    for exchange in log {
        assert_eq!(exchange.status, Some(200), "{}", exchange.target);
        assert!(
            exchange.target.contains("limit=") && exchange.target.contains("&offset="),
            "{}",
            exchange.target
        );
        assert_eq!(exchange.header("content-type"), Some("application/json"));
        assert_eq!(exchange.header("x-project-id"), None);
    }
}

#[tokio::test]
async fn an_account_without_repositories_is_up_and_has_none() {
    let simulator = simulator(World::empty()).await;
    let exporter = polled(&simulator, "").await;
    assert_eq!(exporter.value("up{source=\"swr\"}").as_deref(), Some("1"));
    assert_eq!(exporter.value("source_repositories{source=\"swr\"}").as_deref(), Some("0"));
    assert!(!exporter.page().contains("container_registry_organization_"));
}

#[tokio::test]
async fn addresses_a_nested_name_with_dollars() {
    let mut world = World::empty();
    world.swr.add(Repository::new("group", "a/b/c").with_tag(Tag::new("v1", 7)));
    let simulator = simulator(world).await;
    for more in ["shared = []", "watch = [\"group/a/b/c\"]"] {
        let exporter = polled(&simulator, more).await;
        let tag = "tag_size_bytes{source=\"swr\",organization=\"group\",repository=\"a/b/c\",tag=\"v1\"}";
        assert_eq!(exporter.number(tag), 7.0);
    }
    for call in [Call::ListTags, Call::ShowRepository] {
        for target in targets(&simulator, call) {
            assert!(target.contains("/repos/a$b$c") || target.contains("/repos/a%24b%24c"), "{target}");
        }
    }
}

#[tokio::test]
async fn a_name_that_no_address_can_carry_costs_only_its_own_tags() {
    let mut world = world_of(2);
    for repository in world.swr.repositories.values_mut() {
        repository.tags.push(Tag::new("v1", 7));
    }
    world.swr.add(Repository::new("group", "..").with_tag(Tag::new("v1", 7)));
    let simulator = simulator(world).await;
    let mut exporter = Exporter::new(&swr(&simulator, "shared = []"));
    assert!(exporter.poll().await);
    assert_eq!(listed(&exporter), 3.0);
    assert_eq!(exporter.sum("exporter_tag_listing_failures_total", "reason=\"protocol\""), 1.0);
    assert_eq!(exporter.number("exporter_tag_listings_total{source=\"swr\"}"), 2.0);
}

#[tokio::test]
async fn reads_both_lists_of_shared_repositories() {
    let mut world = world_of(2);
    world.swr.repositories.get_mut("group/app-0000").unwrap().shared_by_me = true;
    let mut expired = Repository::new("partner", "old");
    expired.share_is_valid = false;
    world.swr.add_shared_with_me(expired);
    world.swr.add_shared_with_me(Repository::new("partner", "new"));
    let simulator = simulator(world).await;
    let exporter = polled(&simulator, "tags = { enabled = false }").await;
    assert_eq!(
        targets(&simulator, Call::ListShared),
        ["self", "thirdparty"]
            .map(|center| format!("/v2/manage/shared-repositories?center={center}&limit=1000&offset=0"))
    );
    let valid = |center: &str, organization: &str, name: &str| {
        exporter.value(&format!(
            "shared_repository_valid{{source=\"swr\",center=\"{center}\",organization=\"{organization}\",repository=\"{name}\"}}"
        ))
    };
    assert_eq!(valid("thirdparty", "partner", "old").as_deref(), Some("0"));
    assert_eq!(valid("thirdparty", "partner", "new").as_deref(), Some("1"));
    assert_eq!(valid("self", "group", "app-0000"), None);
    assert_eq!(exporter.sum("shared_repository_info", "center=\"self\""), 1.0);
    assert_eq!(exporter.sum("exporter_polls_total", "collector=\"shared_repositories\""), 1.0);
}

#[tokio::test]
async fn without_shared_lists_there_is_no_such_collector() {
    let simulator = simulator(world_of(1)).await;
    let exporter = polled(&simulator, "shared = []").await;
    assert_eq!(simulator.requests(Call::ListShared), 0);
    assert!(!exporter.page().contains("shared_repositories"));
}

#[tokio::test]
async fn reads_each_named_organization_and_drops_the_rows_of_others() {
    let simulator = simulator(world_of_teams()).await;
    let more = "organizations = [\"team\", \"not-there\"]\nshared = []";
    let exporter = polled(&simulator, more).await;
    let asked = |name| format!("/v2/manage/repos?limit=1000&namespace={name}&offset=0");
    let mut targets = targets(&simulator, Call::ListRepositories);
    targets.sort();
    // And once without a name, for one that is spelled alike.
    let all = "/v2/manage/repos?limit=1000&offset=0".to_owned();
    assert_eq!(targets, [asked("not-there"), asked("team"), all]);
    // The filter matched team-b and steam too.
    assert_eq!(listed(&exporter), 2.0);
    let repositories = |name: &str| {
        exporter.value(&format!("organization_repositories{{source=\"swr\",organization=\"{name}\"}}"))
    };
    assert_eq!(repositories("team").as_deref(), Some("2"));
    assert_eq!(repositories("not-there").as_deref(), Some("0"));
    assert_eq!((repositories("team-b"), repositories("steam")), (None, None));
    assert_eq!(exporter.sum("organization_size_bytes", "not-there"), 0.0);
    assert_eq!(simulator.requests(Call::ListTags), 2);
}

#[tokio::test]
async fn organizations_whose_names_contain_each_other_are_counted_once() {
    let simulator = simulator(world_of_teams()).await;
    let more = "organizations = [\"team\", \"team-b\"]\nshared = []\ntags = { enabled = false }";
    let exporter = polled(&simulator, more).await;
    assert_eq!(listed(&exporter), 3.0);
    assert_eq!(exporter.sum("organization_repositories", ""), 3.0);
    assert_eq!(exporter.number("exporter_duplicates_total{source=\"swr\"}"), 0.0);
}

#[tokio::test]
async fn filters_hold_for_repositories_and_for_shared_ones() {
    let mut world = world_of_teams();
    world.swr.add_shared_with_me(Repository::new("team", "shared"));
    world.swr.add_shared_with_me(Repository::new("partner", "shared"));
    let simulator = simulator(world).await;
    let more = "repositories = { include = [\"team.*/.*\"], exclude = [\".*/web\"] }";
    let exporter = polled(&simulator, more).await;
    assert_eq!(listed(&exporter), 5.0);
    // Anchored: steam/engine does not match.
    assert_eq!(exporter.sum("organization_repositories", ""), 2.0);
    assert_eq!(exporter.sum("organization_size_bytes", ""), 200.0);
    assert_eq!(exporter.sum("repository_info", "web"), 0.0);
    assert_eq!(exporter.sum("shared_repository_info", ""), 1.0);
    assert_eq!(simulator.requests(Call::ListTags), 2);
}

#[tokio::test]
async fn watches_single_repositories_and_takes_not_found_for_an_answer() {
    for not_found_is_400 in [false, true] {
        let mut world = world_of_teams();
        world.swr.not_found_is_400 = not_found_is_400;
        let simulator = simulator(world).await;
        let more = "watch = [\"team/api\", \"team/not-there\", \"nobody/nothing\", \"other/tool\"]";
        let mut exporter = polled(&simulator, more).await;
        assert_eq!(simulator.requests(Call::ShowRepository), 4);
        // The list once, for what exists in place of those that are not there.
        assert_eq!(simulator.requests(Call::ListRepositories), 1);
        assert_eq!(simulator.requests(Call::ListShared), 0);
        assert_eq!(listed(&exporter), 2.0);
        assert_eq!(exporter.value("up{source=\"swr\"}").as_deref(), Some("1"));
        assert!(!exporter.page().contains("container_registry_organization_"));
        assert_eq!(exporter.sum("tag_size_bytes", ""), 200.0);

        simulator.edit(|world| world.swr.repositories.remove("team/api"));
        assert!(exporter.poll().await);
        assert_eq!(listed(&exporter), 1.0);
        assert!(!exporter.inventory().contains("repository=\"api\""));
    }
}

#[tokio::test]
async fn a_404_of_anybody_else_takes_no_watched_repository_away() {
    let coded =
        |shape, code| Fault::Status { code: 404, retry_after: None, body: ErrorBody::new(shape, code, "No") };
    let html = || Fault::Status { code: 404, retry_after: None, body: ErrorBody::html() };
    for (call, fault) in [
        (Call::ShowRepository, Fault::status(404)),
        (Call::ShowRepository, html()),
        (Call::ShowRepository, coded(ErrorShape::Gateway, "APIGW.0101")),
        (Call::ShowRepository, coded(ErrorShape::SwrErrors, "SVCSTG.SWR.4040083")),
        // Of the wrong project, say.
        (Call::CreateToken, coded(ErrorShape::Iam, "404")),
        (Call::CreateToken, coded(ErrorShape::SwrErrors, "SVCSTG.SWR.4040113")),
        (Call::CreateToken, html()),
    ] {
        let simulator = simulator(world_of_teams()).await;
        let mut exporter =
            Exporter::new(&swr_with_password(&simulator, "watch = [\"team/api\", \"other/tool\"]"));
        assert!(exporter.poll().await);
        let case = format!("{call:?} {fault:?}");
        simulator.fault(call, fault);
        simulator.edit(|world| world.iam.tokens.clear());
        assert!(!exporter.poll().await, "{case}");
        assert_eq!(exporter.value("up{source=\"swr\"}").as_deref(), Some("0"), "{case}");
        assert_eq!(listed(&exporter), 2.0, "{case}");
        assert_eq!(exporter.sum("tag_size_bytes", ""), 200.0, "{case}");
    }
}

#[tokio::test]
async fn a_watched_repository_that_may_not_be_read_is_down() {
    let simulator = simulator(world_of_teams()).await;
    simulator.fault(Call::ShowRepository, Fault::status(403)).repository("team/api");
    let mut exporter = Exporter::new(&swr(&simulator, "watch = [\"team/api\", \"other/tool\"]"));
    assert!(!exporter.poll().await);
    assert_eq!(exporter.value("up{source=\"swr\"}").as_deref(), Some("0"));
    assert_eq!(exporter.failure(Collector::Repositories).unwrap().reason.as_str(), "forbidden");
}

#[tokio::test]
async fn tags_of_a_repository_that_is_gone_stay_until_the_list_says_so() {
    for not_found_is_400 in [false, true] {
        let mut world = world_of_teams();
        world.swr.not_found_is_400 = not_found_is_400;
        let simulator = simulator(world).await;
        let mut exporter = polled(&simulator, &format!("shared = []\n{ALL_TAGS}")).await;
        // Deleted between the list and its tags: to the list it is still there.
        let error = ErrorBody::new(ErrorShape::SwrErrors, "SVCSTG.SWR.4040113", "does not exist");
        let code = if not_found_is_400 { 400 } else { 404 };
        let fault = Fault::Status { code, retry_after: None, body: error };
        simulator.fault(Call::ListTags, fault).repository("other/tool");
        let before = exporter.inventory();
        assert!(exporter.poll().await);
        assert_eq!(exporter.inventory(), before);
        assert_eq!(exporter.number("exporter_tag_listings_failing{source=\"swr\"}"), 1.0);

        simulator.edit(|world| world.swr.repositories.remove("other/tool"));
        assert!(exporter.poll().await);
        assert!(!exporter.inventory().contains("organization=\"other\""));
        assert_eq!(exporter.number("exporter_tag_listings_failing{source=\"swr\"}"), 0.0);
    }
}

#[tokio::test]
async fn sends_and_signs_the_project() {
    let simulator = simulator(world_of(1)).await;
    let project = format!("project_id = \"{}\"", keys::PROJECT_ID);
    polled(&simulator, &project).await;
    for exchange in simulator.log() {
        assert_eq!(exchange.header("x-project-id"), Some(keys::PROJECT_ID));
        let signed = exchange.header("authorization").unwrap();
        assert!(signed.contains(";x-project-id;") || signed.contains(";x-project-id,"), "{signed}");
    }
    let mut exporter = Exporter::new(&swr(&simulator, "project_id = \"another\""));
    assert!(!exporter.poll().await);
    assert_eq!(exporter.failure(Collector::Repositories).unwrap().reason.as_str(), "forbidden");
}

#[tokio::test]
async fn reads_tag_names_under_either_spelling() {
    for lower_case in [false, true] {
        let mut world = world_of_teams();
        world.swr.lower_case_tag = lower_case;
        let simulator = simulator(world).await;
        let exporter = polled(&simulator, "shared = []").await;
        assert_eq!(exporter.sum("tag_size_bytes", "tag=\"v1\""), 500.0);
    }
}

#[tokio::test]
async fn throttling_that_comes_as_403_is_tried_again_in_every_shape() {
    let mut retried = Vec::new();
    for shape in [
        ErrorShape::SwrArray,
        ErrorShape::SwrErrorsAndCode,
        ErrorShape::SwrErrors,
        ErrorShape::SwrFlat,
        ErrorShape::Gateway,
    ] {
        retried.push(async move {
            let simulator = simulator(world_of(1)).await;
            let body = ErrorBody::new(shape, "SVCSTG.SWR.4031032", "Too many requests");
            let fault = Fault::Status { code: 403, retry_after: None, body };
            simulator.fault(Call::ListRepositories, fault).times(1);
            let exporter = polled(&simulator, ONLY_REPOSITORIES).await;
            assert_eq!(exporter.number("exporter_api_throttled_total{source=\"swr\"}"), 1.0, "{shape:?}");
            assert_eq!(exporter.sum("exporter_api_requests_total", "code=\"403\""), 1.0);
        });
    }
    futures_util::future::join_all(retried).await;
}

#[tokio::test]
async fn an_endpoint_may_have_a_path_of_its_own() {
    let simulator = simulator(world_of(1)).await;
    let config = swr(&simulator, ONLY_REPOSITORIES);
    let config = config.replace(&simulator.swr_url(), &format!("{}/gateway/", simulator.swr_url()));
    let mut exporter = Exporter::new(&config);
    assert!(!exporter.poll().await);
    assert_eq!(simulator.log()[0].target, "/gateway/v2/manage/repos?limit=1000&offset=0");
    assert_eq!(exporter.failure(Collector::Repositories).unwrap().reason.as_str(), "not_found");
}

#[tokio::test]
async fn two_sources_do_not_mix() {
    let (first, second) = (simulator(world_of(2)).await, simulator(world_of_teams()).await);
    let auth =
        format!("access_key = \"{}\", secret_key = \"{}\"", keys::SWR_ACCESS_KEY, keys::SWR_SECRET_KEY);
    let config = swr_with("first", &first, &auth, "") + &swr_with("second", &second, &auth, "");
    let mut exporter = Exporter::new(&config);
    first.fault(Call::ListRepositories, Fault::status(404));
    assert!(!exporter.poll().await);
    assert_eq!(exporter.number("up{source=\"first\"}"), 0.0);
    assert_eq!(exporter.number("up{source=\"second\"}"), 1.0);
    assert_eq!(exporter.sum("source_repositories", ""), 5.0);
    assert_eq!(exchanges(&second, Call::ListTags).len(), 5);
}

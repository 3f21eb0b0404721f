//! Sources that share a key, a region's gateway or a server: what befalls one leaves the others alone, and between them
//! they do not lock the key.

use container_registry_exporter::simulator::{ErrorBody, ErrorShape};
use futures_util::future::join_all;

use super::services::Services;
use super::*;

/// So many regions, each with a repository and a tag.
async fn regions(number: usize) -> Vec<Simulator> {
    let mut world = World::empty();
    world.swr.add(Repository::new("group", "app").with_tag(Tag::new("v1", 1)));
    world.ncr.add(Registry::new("prod").with_image(Image::new("app").with_tag(ImageTag::new("v1", 1))));
    join_all((0..number).map(|_| simulator(world.clone()))).await
}

fn key(secret: &str) -> String {
    format!("access_key = \"{}\", secret_key = \"{secret}\"", keys::SWR_ACCESS_KEY)
}

/// A source for each region, all with one key.
fn sources(regions: &[Simulator], secret: &str, more: &str) -> String {
    let source = |(number, region)| swr_with(&format!("region-{number}"), region, &key(secret), more);
    regions.iter().enumerate().map(source).collect()
}

/// How many calls the regions refused.
fn refused(regions: &[Simulator]) -> usize {
    let of = |region: &Simulator| region.log().iter().filter(|exchange| exchange.status == Some(401)).count();
    regions.iter().map(of).sum()
}

/// The sources that are up.
fn up(exporter: &Exporter, number: usize) -> Vec<usize> {
    (0..number).filter(|n| exporter.number(&format!("up{{source=\"region-{n}\"}}")) == 1.0).collect()
}

fn throttled() -> Fault {
    Fault::Status { code: 429, retry_after: Some("300".to_owned()), body: ErrorBody::empty() }
}

#[tokio::test]
async fn a_source_that_is_told_to_wait_silences_no_other_and_fails_as_throttled() {
    let regions = regions(4).await;
    let ncr_pair = ncr_at("a", &regions[2].ncr_url(), keys::NCR_SECRET_KEY, "")
        + &ncr_at("b", &regions[3].ncr_url(), keys::NCR_SECRET_KEY, "");
    let one_host = simulator(world()).await;
    let same_host = swr_with("a", &one_host, &key(keys::SWR_SECRET_KEY), "")
        + &swr_with("b", &one_host, &key(keys::SWR_SECRET_KEY), "shared = []");
    regions[0].fault(Call::ListRepositories, throttled());
    regions[2].fault(Call::ListRegistries, throttled());
    one_host.fault(Call::ListShared, throttled());
    let pair = swr_with("a", &regions[0], &key(keys::SWR_SECRET_KEY), "")
        + &swr_with("b", &regions[1], &key(keys::SWR_SECRET_KEY), "");
    let runs = [("two regions", pair), ("NCR", ncr_pair), ("one host", same_host)].map(
        async |(what, config): (&str, String)| {
            let mut exporter = Exporter::new(&config);
            exporter.poll_within(Duration::from_secs(3)).await;
            // The first call of this one waits as long as the API asks for.
            exporter.poll_within(Duration::from_secs(3)).await;
            let failures = |part: &str| exporter.sum("exporter_poll_failures_total", part);
            assert_eq!(failures("source=\"b\""), 0.0, "{what}");
            assert_eq!(exporter.number("up{source=\"b\"}"), 1.0, "{what}");
            assert_eq!(exporter.number("up{source=\"a\"}"), 0.0, "{what}");
            let failure = exporter.failure(Collector::Repositories).unwrap();
            assert_eq!(failure.reason.as_str(), "throttled", "{what}: {}", failure.message);
            let all = exporter.sum("exporter_poll_failures_total", "source=\"a\"");
            let of_a = exporter.page();
            let of_a =
                of_a.lines().filter(|l| l.contains("poll_failures_total{") && l.contains("source=\"a\""));
            let throttled: f64 = of_a
                .filter(|line| line.contains("reason=\"throttled\""))
                .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
                .sum();
            assert_eq!(throttled, all, "{what}");
            let waited = exporter.number("exporter_api_wait_seconds_total{source=\"a\"}");
            assert!(waited >= 2.5, "{what}: {waited}");
        },
    );
    join_all(runs).await;
}

#[tokio::test]
async fn ten_regions_that_start_at_once_have_a_bad_key_refused_three_times() {
    for case in ["access key", "password", "ncr"] {
        let regions = regions(10).await;
        let config: String = match case {
            "access key" => sources(&regions, "not-the-secret-key", ""),
            "password" => {
                let auth = format!(
                    "method = \"password\", account = \"{}\", username = \"{}\", password = \"wrong\"",
                    keys::IAM_ACCOUNT,
                    keys::IAM_USER
                );
                let source = |(n, region)| swr_with(&format!("region-{n}"), region, &auth, "");
                regions.iter().enumerate().map(source).collect()
            }
            _ => {
                let source = |(n, region): (_, &Simulator)| {
                    ncr_at(&format!("region-{n}"), &region.ncr_url(), "no", "")
                };
                regions.iter().enumerate().map(source).collect()
            }
        };
        let mut exporter = Exporter::new(&config);
        for poll in 1..=2 {
            assert!(!exporter.poll().await);
            assert_eq!(refused(&regions), 3, "{case}, poll {poll}");
            let failures = exporter.sum("exporter_poll_failures_total", "reason=\"unauthorized\"");
            assert_eq!(failures, exporter.sum("exporter_poll_failures_total", ""), "{case}");
        }
        let requests: u64 = regions.iter().map(Simulator::all_requests).sum();
        assert_eq!(requests, 3, "{case}");
        let shown = exporter.everything_shown();
        assert!(shown.contains("3 times in five minutes, the last: status 401"), "{case}: {shown}");
    }
}

#[tokio::test]
async fn ten_regions_whose_key_is_revoked_between_two_polls_refuse_it_three_times() {
    let regions = regions(10).await;
    let mut exporter = Exporter::new(&sources(&regions, keys::SWR_SECRET_KEY, ""));
    assert!(exporter.poll().await);
    for region in &regions {
        region.edit(|world| "another".clone_into(&mut world.swr.access_keys[0].secret_key));
    }
    assert!(!exporter.poll().await);
    assert!(!exporter.poll().await);
    assert_eq!(refused(&regions), 3);
}

#[tokio::test]
async fn regions_that_a_credential_is_not_meant_for_silence_no_other() {
    for (status, code, words) in [
        (401, "APIGW.0307", "The token must be updated."),
        (403, "APIGW.0310", "The project is unavailable."),
        (401, "APIGW.0310", "The project is unavailable."),
        (401, "APIG.0307", "The token must be updated."),
    ] {
        let regions = regions(10).await;
        for region in &regions[..5] {
            let body = ErrorBody::new(ErrorShape::Gateway, code, words);
            region.fault(Call::ListRepositories, Fault::Status { code: status, retry_after: None, body });
        }
        let mut exporter = Exporter::new(&sources(&regions, keys::SWR_SECRET_KEY, "shared = []"));
        for _ in 0..2 {
            assert!(!exporter.poll().await);
            assert_eq!(up(&exporter, 10), [5, 6, 7, 8, 9], "{status} {code}");
        }
        if status == 401 {
            assert_eq!(refused(&regions), 5, "each host waits for itself");
        }
    }
}

#[tokio::test]
async fn three_dead_regions_silence_no_good_one() {
    let unavailable = Fault::Status { code: 503, retry_after: None, body: ErrorBody::html() };
    let runs = [Fault::Hang, Fault::Reset, unavailable].map(async |fault| {
        let regions = regions(10).await;
        for region in &regions[..3] {
            region.fault(Call::ListRepositories, fault.clone());
        }
        let more = "shared = []\npoll = { request_timeout = \"1s\" }";
        let mut exporter = Exporter::new(&sources(&regions, keys::SWR_SECRET_KEY, more));
        exporter.poll_within(Duration::from_secs(5)).await;
        assert_eq!(up(&exporter, 10), [3, 4, 5, 6, 7, 8, 9], "{fault:?}");
    });
    join_all(runs).await;
}

#[tokio::test]
async fn three_regions_that_refuse_a_good_key_silence_no_good_one() {
    let regions = regions(10).await;
    for region in &regions[7..] {
        region.fault(Call::ListRepositories, Fault::Unauthorized);
    }
    let mut exporter = Exporter::new(&sources(&regions, keys::SWR_SECRET_KEY, ""));
    for _ in 0..2 {
        assert!(!exporter.poll().await);
        assert_eq!(up(&exporter, 10), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(refused(&regions), 3);
    }
}

#[tokio::test]
async fn answers_that_do_not_come_from_behind_the_authentication_prove_no_key() {
    let watched: Vec<String> = (0..8).map(|number| format!("group/app-{number:02}")).collect();
    let gateway = |code: &str| ErrorBody::new(ErrorShape::Gateway, code, "made up");
    for (status, body) in [
        (503, ErrorBody::empty()),
        (429, ErrorBody::empty()),
        (403, gateway("APIGW.0308")),
        (500, ErrorBody::html()),
        (307, ErrorBody::empty()),
        (403, ErrorBody::html()),
        (404, ErrorBody::html()),
        (404, gateway("APIGW.0101")),
    ] {
        let simulator = simulator(world()).await;
        simulator.edit(|world| world.latency = Duration::from_millis(20));
        let fault = Fault::Status { code: status, retry_after: None, body: body.clone() };
        simulator.fault(Call::ShowRepository, fault).times(1);
        let more = format!("watch = {watched:?}\npoll = {{ max_concurrent_requests = 8 }}");
        let mut exporter = Exporter::new(&swr_with("swr", &simulator, &key("not-the-secret-key"), &more));
        assert!(!exporter.poll().await);
        let refused = refused(std::slice::from_ref(&simulator));
        assert!(refused <= 1, "{status} {body:?}: {refused} refused calls");
    }
}

#[tokio::test]
async fn an_error_of_the_service_itself_proves_the_key() {
    let watched: Vec<String> = (0..9).map(|number| format!("group/app-{number:02}")).collect();
    let simulator = simulator(world()).await;
    simulator.edit(|world| world.latency = Duration::from_millis(50));
    let body = ErrorBody::new(ErrorShape::SwrFlat, "SVCSTG.SWR.4040113", "No such image");
    let fault = Fault::Status { code: 404, retry_after: None, body };
    simulator.fault(Call::ShowRepository, fault).times(1);
    let more = format!("watch = {watched:?}\ntags = {{ enabled = false }}\nshared = []");
    assert!(Exporter::new(&swr(&simulator, &more)).poll().await);
    assert_eq!(simulator.most_in_flight(Call::ShowRepository), 8);
}

/// The same source fifty times.
fn fifty(source: &str) -> String {
    let named = |number| source.replacen("[sources.", &format!("[sources.s{number}-"), 1);
    (0..50).map(named).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_sources_on_one_server_start_with_a_slow_service_of_keys() {
    // Less than the service may take, by as much as a busy machine needs.
    let slow = Duration::from_millis(1500);
    let more = "tags = { enabled = false }\n";
    let mut runs = Vec::new();
    for call in [Call::MetadataKey, Call::RoleKey, Call::PodIdentity, Call::AssumeAgency] {
        let services = Services::of(world()).await;
        services.simulator.edit(|world| world.latency_of.insert(call, slow));
        let services = match call {
            Call::PodIdentity => services.pod_identity(),
            Call::AssumeAgency => services.oidc(),
            _ => services.metadata(),
        };
        let source = match call {
            Call::RoleKey => services.ncr(more),
            _ => services.swr(&format!("shared = []\n{more}")),
        };
        let exporter = services.exporter(&fifty(&source));
        runs.push((call, services, exporter));
    }
    let polls = runs.iter_mut().map(|(_, _, exporter)| exporter.poll_within(Duration::from_secs(20)));
    join_all(polls).await;
    for (call, _, exporter) in runs {
        assert_eq!(exporter.sum("up", ""), 50.0, "{call:?}");
    }
}

#[tokio::test]
async fn a_service_of_keys_that_cannot_be_reached_is_no_refused_credential() {
    let calls = [
        Call::MetadataToken,
        Call::MetadataKey,
        Call::PodIdentity,
        Call::IdToken,
        Call::SecurityToken,
        Call::AssumeAgency,
        Call::RoleToken,
        Call::Role,
        Call::RoleKey,
        Call::CreateToken,
    ];
    let faults = [
        ("connect", Fault::Reset, ""),
        ("timeout", Fault::Hang, "poll = { request_timeout = \"300ms\" }\n"),
        ("server", Fault::status(500), ""),
        ("throttled", Fault::status(429), ""),
    ];
    let mut runs = Vec::new();
    for call in calls {
        for (reason, fault, more) in faults.clone() {
            // A second is not enough for a connection that breaks on a busy machine.
            if matches!((call, reason), (Call::MetadataToken | Call::RoleToken, "connect")) {
                continue;
            }
            let services = Services::of(world()).await;
            let services = match call {
                Call::PodIdentity => services.pod_identity(),
                Call::IdToken | Call::SecurityToken => services.identity_provider(),
                Call::AssumeAgency => services.oidc(),
                _ => services.metadata(),
            };
            services.simulator.fault(call, fault.clone());
            let source = match call {
                Call::RoleToken | Call::Role | Call::RoleKey => services.ncr(more),
                Call::CreateToken => swr_with_password(&services.simulator, more),
                _ => services.swr(more),
            };
            let exporter = services.exporter(&source);
            runs.push((format!("{call:?} {fault:?}"), reason, services, exporter));
        }
    }
    assert_eq!(runs.len(), 38);
    assert!(join_all(runs.iter_mut().map(|(.., exporter)| exporter.poll())).await.iter().all(|good| !good));
    for (name, reason, _, exporter) in runs {
        let failure = exporter.failure(Collector::Repositories).unwrap();
        assert_eq!(failure.reason.as_str(), reason, "{name}: {}", failure.message);
    }
}

#[tokio::test]
async fn retries_of_every_call_are_counted_from_nothing() {
    for (services, naver, auth) in [
        (Services::of(world()).await.metadata(), false, ""),
        (Services::of(world()).await.metadata(), true, ""),
        (Services::of(world()).await.pod_identity(), false, ""),
        (Services::of(world()).await.identity_provider(), false, ""),
        (Services::of(world()).await.oidc(), false, "watch = [\"group/app-01\"]"),
        (Services::of(world()).await, false, "password"),
    ] {
        let source = match (naver, auth) {
            (true, _) => services.ncr(""),
            (_, "password") => swr_with_password(&services.simulator, ""),
            (_, more) => services.swr(more),
        };
        let mut exporter = services.exporter(&source);
        let operations = |exporter: &Exporter, family: &str| {
            let page = exporter.page();
            let lines = page.lines().filter(|line| line.contains(&format!("exporter_{family}{{")));
            let operation = |line: &str| {
                let (_, rest) = line.split_once("operation=\"").unwrap();
                rest.split('"').next().unwrap().to_owned()
            };
            lines.map(operation).collect::<std::collections::BTreeSet<_>>()
        };
        let before = operations(&exporter, "api_retries_total");
        assert_eq!(exporter.sum("exporter_api_retries_total", ""), 0.0);
        assert!(exporter.poll().await, "{:?}", exporter.failure(Collector::Repositories));
        assert_eq!(before, operations(&exporter, "api_requests_total"), "{source}");
    }
}

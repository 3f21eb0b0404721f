//! Everything that can go wrong at every call: the poll fails for the right reason, nothing is lost, nothing secret
//! is shown or sent elsewhere, and the next poll heals it all.

mod bytes;
mod listings;
mod texts;
mod values;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use container_registry_exporter::simulator::{
    Call, ErrorBody, ErrorShape, Fault, Image, ImageTag, Registry, Repository, Simulator, Tag, World,
};
use container_registry_exporter::telemetry::Collector;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::support::{
    ALL_TAGS, Exporter, SECRETS, assert_no_secret, exchanges, ncr, simulator, swr, swr_with_password, targets,
};

/// Cells that run at a time: most of them wait between retries, each has some sockets open.
const CELLS_AT_A_TIME: usize = 40;

const CALLS: [Call; 8] = [
    Call::ListRepositories,
    Call::ListShared,
    Call::ListTags,
    Call::ShowRepository,
    Call::CreateToken,
    Call::ListRegistries,
    Call::ListImages,
    Call::ListImageTags,
];

/// What an answer can be instead of a good one, and the reason that it gives.
fn bad_answers(elsewhere: &str) -> Vec<(&'static str, Fault)> {
    let throttled = ErrorBody::new(ErrorShape::Gateway, "APIGW.0308", "The throttling threshold was reached");
    vec![
        ("protocol", Fault::status(400)),
        ("forbidden", Fault::status(403)),
        ("not_found", Fault::status(404)),
        ("throttled", Fault::status(429)),
        ("throttled", Fault::Status { code: 403, retry_after: None, body: throttled }),
        ("server", Fault::status(500)),
        ("server", Fault::Status { code: 502, retry_after: None, body: ErrorBody::html() }),
        ("unauthorized", Fault::Unauthorized),
        ("timeout", Fault::Hang),
        ("timeout", Fault::SlowDrip(Duration::from_millis(200))),
        ("connect", Fault::Reset),
        ("connect", Fault::Truncate),
        ("decode", Fault::Html),
        ("decode", Fault::NotJson),
        ("decode", Fault::EmptyBody),
        ("decode", Fault::WrongTypes),
        ("decode", Fault::Json("{}".to_owned())),
        ("decode", Fault::Json(r#"{"success":false,"message":"in maintenance"}"#.to_owned())),
        ("decode", Fault::Json(r#"{"errorCode":"200","message":"in maintenance"}"#.to_owned())),
        ("decode", Fault::Json("[[\"group\",\"app\"]]".to_owned())),
        ("too_large", Fault::HugeBody),
        ("too_large", Fault::GzipBomb),
        ("protocol", Fault::Redirect(format!("{elsewhere}/v2/manage/repos?limit=1000&offset=0"))),
    ]
}

/// How many there are of the above; one of them is Huawei's alone.
const BAD_ANSWERS: usize = 23;

/// Both clouds with something behind every call.
fn world() -> World {
    let mut world = World::empty();
    let mut app = Repository::new("group", "app").with_tag(Tag::new("v1", 11)).with_tag(Tag::new("v2", 12));
    app.shared_by_me = true;
    world.swr.add(app);
    world.swr.add(Repository::new("group", "web").with_tag(Tag::new("v1", 13)));
    world.swr.add_shared_with_me(Repository::new("partner", "ml").with_tag(Tag::new("v1", 14)));
    let app = Image::new("app").with_tag(ImageTag::new("v1", 15));
    let web = Image::new("web").with_tag(ImageTag::new("v1", 16));
    world.ncr.add(Registry::new("prod").with_image(app).with_image(web));
    world.ncr.add(Registry::new("test"));
    world
}

/// A source that makes this call.
fn source(simulator: &Simulator, call: Call, more: &str) -> String {
    match call {
        Call::ListRepositories | Call::ListShared | Call::ListTags => swr(simulator, more),
        Call::ShowRepository => swr(simulator, &format!("watch = [\"group/app\", \"group/web\"]\n{more}")),
        Call::CreateToken => swr_with_password(simulator, more),
        Call::ListRegistries | Call::ListImages | Call::ListImageTags => ncr(simulator, more),
        other => unreachable!("{other:?} hands out keys"),
    }
}

/// The collector that makes the call, and the repository or registry to which the fault is limited.
fn place(call: Call) -> (Collector, Option<&'static str>) {
    match call {
        Call::ListRepositories | Call::CreateToken | Call::ListRegistries => (Collector::Repositories, None),
        Call::ListShared => (Collector::SharedRepositories, None),
        Call::ListTags => (Collector::Tags, Some("group/app")),
        Call::ShowRepository => (Collector::Repositories, Some("group/app")),
        Call::ListImages => (Collector::Repositories, Some("prod")),
        Call::ListImageTags => (Collector::Tags, Some("prod/app")),
        other => unreachable!("{other:?} hands out keys"),
    }
}

/// One poll without the fault, one with it, one without.
async fn bad_answer(call: Call, reason: &'static str, fault: Fault) {
    let simulator = simulator(world()).await;
    // Only the collector that makes the call: a credential or token that is refused stops the others too.
    let mut more = match call {
        Call::ListShared => "tags = { enabled = false }\n".to_owned(),
        Call::ListRepositories | Call::CreateToken => format!("shared = []\n{ALL_TAGS}"),
        _ => ALL_TAGS.to_owned(),
    };
    if matches!(fault, Fault::Hang | Fault::SlowDrip(_)) {
        more.push_str("poll = { request_timeout = \"1s\" }");
    }
    let config = source(&simulator, call, &more);
    let name = if config.contains("[sources.ncr]") { "ncr" } else { "swr" };
    let up = format!("up{{source=\"{name}\"}}");
    let mut exporter = Exporter::new(&config);
    assert!(exporter.poll().await, "the first poll");
    let before = exporter.inventory();

    let (collector, key) = place(call);
    let in_force = simulator.fault(call, fault.clone());
    if let Some(key) = key {
        in_force.repository(key);
    }
    // A token is kept; one that was revoked must be replaced.
    let revoked: Vec<String> =
        simulator.edit(|world| world.iam.tokens.drain(..).map(|token| token.value).collect());
    simulator.clear_log();
    let succeeded = exporter.poll().await;
    assert!(simulator.requests(call) > 0);
    let failures = exporter.sum("exporter_poll_failures_total", "");
    let tag_failures = exporter.sum("exporter_tag_listing_failures_total", "");
    let of_reason = format!("reason=\"{reason}\"");
    if collector == Collector::Tags {
        assert_eq!(tag_failures, 1.0);
        assert_eq!(exporter.sum("exporter_tag_listing_failures_total", &of_reason), 1.0);
        assert_eq!(exporter.inventory(), before);
        // A refused credential also keeps the others from being tried.
        if reason == "unauthorized" {
            assert!(!succeeded && failures == 1.0);
        } else {
            assert_eq!(failures, 0.0);
            assert_eq!(exporter.sum("exporter_tag_listings_pending", ""), 1.0);
        }
    } else {
        assert!(!succeeded);
        let of_collector = format!("collector=\"{}\",{of_reason}", collector.as_str());
        assert_eq!((failures, tag_failures), (1.0, 0.0));
        assert_eq!(exporter.sum("exporter_poll_failures_total", &of_collector), 1.0);
        let failure = exporter.failure(collector).unwrap();
        assert_eq!(failure.reason.as_str(), reason, "{}", failure.message);
        let is_up = if collector == Collector::Repositories { "0" } else { "1" };
        assert_eq!(exporter.value(&up).as_deref(), Some(is_up));
        // The source is down, and the organizations that have lists of their own: the one whose list it is, or all of
        // them where it is the credential that is refused.
        let down = |series: &str| {
            series.starts_with("container_registry_organization_up{")
                && (reason == "unauthorized" || call == Call::ListImages && series.contains("\"prod\""))
        };
        let now = before.lines().map(|line| match line.strip_suffix(" 1") {
            Some(series) if series.starts_with(&format!("container_registry_{up}")) => {
                format!("{series} {is_up}\n")
            }
            Some(series) if down(series) => format!("{series} 0\n"),
            _ => format!("{line}\n"),
        });
        assert_eq!(exporter.inventory(), now.collect::<String>());
    }
    let shown = exporter.everything_shown();
    assert_no_secret(&shown, &SECRETS);
    for token in simulator.edit(|world| world.iam.tokens.clone()).iter().map(|t| &t.value).chain(&revoked) {
        assert!(!shown.contains(token.as_str()));
    }

    simulator.clear_faults();
    simulator.clear_log();
    let healed = exporter.poll().await;
    if reason == "unauthorized" {
        assert!(!healed);
        assert_eq!(simulator.all_requests(), 0);
        let message = exporter.failure(Collector::Repositories).unwrap().message;
        assert!(message.contains("next attempt at 2"), "{message}");
    } else {
        assert!(healed);
        assert_eq!(exporter.inventory(), before);
        assert_eq!(exporter.failure(collector), None);
        assert_eq!(exporter.sum("exporter_tag_listings_pending", ""), 0.0);
    }
}

/// Runs the cells side by side and names those that fail.
async fn run(cells: Vec<(String, impl Future<Output = ()> + Send + 'static)>) {
    let turns = Arc::new(Semaphore::new(CELLS_AT_A_TIME));
    let mut running = JoinSet::new();
    for (name, cell) in cells {
        let turns = Arc::clone(&turns);
        running.spawn(async move {
            let _turn = turns.acquire().await.unwrap();
            tokio::spawn(cell).await.is_err().then_some(name)
        });
    }
    let mut failed: Vec<String> = running.join_all().await.into_iter().flatten().collect();
    failed.sort();
    assert!(failed.is_empty(), "{} failed: {failed:#?}", failed.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_answer_at_every_call_fails_for_its_reason_and_heals() {
    // Where redirects lead to.
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let address = format!("http://{}", elsewhere.local_addr().unwrap());
    let mut cells = Vec::new();
    for call in CALLS {
        let naver = matches!(call, Call::ListRegistries | Call::ListImages | Call::ListImageTags);
        for (reason, fault) in bad_answers(&address) {
            if naver && reason == "throttled" && matches!(fault, Fault::Status { code: 403, .. }) {
                continue;
            }
            // The sign of an answer with a token is a header, and when it ends need not be known.
            let reason = match &fault {
                Fault::WrongTypes if call == Call::CreateToken => continue,
                Fault::Json(body) if call == Call::CreateToken && body.starts_with('{') => "protocol",
                _ => reason,
            };
            cells.push((format!("{call:?} {fault:?}"), bad_answer(call, reason, fault)));
        }
    }
    assert_eq!(cells.len(), 5 * BAD_ANSWERS + 3 * (BAD_ANSWERS - 1) - 1);
    run(cells).await;
    assert_eq!(elsewhere.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[tokio::test]
async fn waits_as_long_as_the_api_asks_and_counts_it() {
    let simulator = simulator(world()).await;
    let fault = Fault::Status { code: 429, retry_after: Some("3".to_owned()), body: ErrorBody::empty() };
    simulator.fault(Call::ListRepositories, fault).times(1);
    let mut exporter = Exporter::new(&swr(&simulator, "shared = []\ntags = { enabled = false }"));
    assert!(exporter.poll().await);
    assert_eq!(exporter.number("exporter_api_throttled_total{source=\"swr\"}"), 1.0);
    assert_eq!(exporter.sum("exporter_api_retries_total", "operation=\"list_repositories\""), 1.0);
    assert!(exporter.number("exporter_api_wait_seconds_total{source=\"swr\"}") >= 3.0);
    assert_eq!(exporter.sum("exporter_api_requests_total", "code=\"429\""), 1.0);
    assert_eq!(exporter.sum("exporter_api_requests_total", "code=\"200\""), 1.0);
    let log = simulator.log();
    assert!(log[1].started - log[0].started >= Duration::from_secs(3));
}

#[tokio::test]
async fn does_not_repeat_what_a_repetition_cannot_mend() {
    for (status, requests) in [(400, 3), (403, 1), (404, 1), (408, 1), (409, 1)] {
        let simulator = simulator(world()).await;
        simulator.fault(Call::ListRepositories, Fault::status(status));
        let mut exporter = Exporter::new(&swr(&simulator, "shared = []\ntags = { enabled = false }"));
        assert!(!exporter.poll().await);
        // A 400 may be about the page size: each of the three is asked for once.
        assert_eq!(simulator.requests(Call::ListRepositories), requests, "{status}");
        assert_eq!(exporter.sum("exporter_api_retries_total", ""), 0.0);
        assert_eq!(exporter.number("exporter_api_wait_seconds_total{source=\"swr\"}"), 0.0);
    }
}

#[tokio::test]
async fn each_retry_has_a_time_and_signature_of_its_own() {
    for (call, time, signature) in [
        (Call::ListRepositories, "x-sdk-date", "authorization"),
        (Call::ListRegistries, "x-ncp-apigw-timestamp", "x-ncp-apigw-signature-v2"),
    ] {
        let simulator = simulator(world()).await;
        let fault = Fault::Status { code: 503, retry_after: Some("2".to_owned()), body: ErrorBody::empty() };
        simulator.fault(call, fault).times(1);
        let mut exporter = Exporter::new(&source(&simulator, call, "tags = { enabled = false }"));
        assert!(exporter.poll().await);
        let log = exchanges(&simulator, call);
        assert!(log.len() >= 2);
        for header in [time, signature] {
            assert!(log[0].header(header).is_some() && log[0].header(header) != log[1].header(header));
        }
    }
}

#[tokio::test]
async fn an_https_address_that_speaks_http_is_a_tls_failure() {
    let simulator = simulator(world()).await;
    let config = swr(&simulator, "shared = []").replace("endpoint = \"http://", "endpoint = \"https://");
    let directory = tempfile::tempdir().unwrap();
    let authority = directory.path().join("ca.pem");
    std::fs::write(&authority, include_str!("../tls/authority.pem")).unwrap();
    let mut exporter = Exporter::new(&format!("{config}tls = {{ ca_file = \"{}\" }}\n", authority.display()));
    assert!(!exporter.poll().await);
    let failure = exporter.failure(Collector::Repositories).unwrap();
    assert_eq!(failure.reason.as_str(), "tls", "{}", failure.message);
    assert_eq!(simulator.all_requests(), 0);
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_a_connection_failure() {
    let simulator = simulator(world()).await;
    let config = swr(&simulator, "shared = []");
    drop(simulator);
    let mut exporter = Exporter::new(&config);
    assert!(!exporter.poll().await);
    let failure = exporter.failure(Collector::Repositories).unwrap();
    assert_eq!(failure.reason.as_str(), "connect", "{}", failure.message);
    assert_eq!(exporter.value("up{source=\"swr\"}").as_deref(), Some("0"));
}

/// The running program; ends with the test.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_end_does_not_fill_the_memory() {
    for fault in [Fault::GzipBomb, Fault::HugeBody] {
        let simulator = simulator(world()).await;
        simulator.fault(Call::ListRepositories, fault.clone());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        std::fs::write(&path, swr(&simulator, "")).unwrap();
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_container-registry-exporter"));
        program.args(["--web.listen-address", "127.0.0.1:0", "--config.file"]).arg(&path);
        let program = Running(program.stderr(std::process::Stdio::null()).spawn().unwrap());
        // The shared repositories come next.
        while simulator.requests(Call::ListShared) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", program.0.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kilobytes < 200 * 1024, "{fault:?}: {kilobytes} kB");
    }
}

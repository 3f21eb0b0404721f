//! The page for people in a real browser, and the same facts as JSON. Pictures of it are left in
//! `tmp/pictures` of where cargo builds.

mod browser;
mod facts;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Instant, SystemTime};

use browser::Browser;
use container_registry_exporter::simulator::{Call, ErrorBody, ErrorShape, Fault, Simulator, demo, keys};
use container_registry_exporter::telemetry::Reason;
use serde_json::Value;

use crate::program::{Files, Program, ncr, until};
use crate::server::serve;
use crate::support::swr_with;

const PHONE: u32 = 320;
const DESKTOP: u32 = 1280;

/// The simulated clouds have no limit.
const FAST: &str = "[poll]\nrequests_per_second = 0\n";

/// Runs no script if all goes well, and isolates what is written from right to left.
const HOSTILE: &str =
    "\u{202e}<script>document.title = 'hacked'</script><img src=x onerror=alert(1)>\u{2067}'\"";

async fn clouds() -> Simulator {
    Simulator::start(demo::world(SystemTime::now())).await.unwrap()
}

fn access_keys(secret_key: &str) -> String {
    format!("access_key = \"{}\", secret_key = \"{secret_key}\"", keys::SWR_ACCESS_KEY)
}

/// The facts once they are so; polls may still be under way before.
async fn status(program: &Program, holds: impl Fn(&Value) -> bool) -> Value {
    until("the facts of /status.json", async || {
        let status = serde_json::from_str(&program.get("/status.json").await).unwrap();
        holds(&status).then_some(status)
    })
    .await
}

/// Whether every source was polled to its end.
fn polled(status: &Value) -> bool {
    status["sources"].as_array().unwrap().iter().all(|source| {
        let collectors = source["collectors"].as_array().unwrap();
        let ended = |c: &Value| !c["last_success_time"].is_null() || !c["failure"].is_null();
        source["polling"] == false && !source["series"].is_null() && ended(&collectors[0])
    })
}

/// Looks at the front page in every width and light, and takes a picture of each. Nothing may be out of reach, hard
/// to read, loaded from elsewhere or complained about.
async fn look(browser: &mut Browser, address: SocketAddr, name: &str) {
    let url = format!("http://{address}/");
    for (width, scheme) in [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")] {
        browser.open(&url, width, scheme).await;
        assert_eq!(browser.requests(), [&url], "{name}");
        assert_eq!(browser.complaints(), [&Value::Null; 0], "{name}");
        let content = browser.evaluate("document.documentElement.scrollWidth").await;
        assert_eq!(content, width, "{name}: the page is wider than the window");
        let outside = browser.evaluate(include_str!("landing/outside.js")).await;
        assert_eq!(outside, Value::Array(Vec::new()), "{name}, {width}: wider than what is around it");
        let weak = browser.evaluate(include_str!("landing/contrast.js")).await;
        assert_eq!(weak, Value::Array(Vec::new()), "{name}, {scheme}: texts without contrast");
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pictures");
        browser.picture(&directory.join(format!("{name}-{width}-{scheme}.png"))).await;
    }
}

#[tokio::test]
async fn a_browser_shows_that_all_is_well_without_scripts_and_to_a_screen_reader() {
    let clouds = clouds().await;
    let config = swr_with("swr-prod", &clouds, &access_keys(keys::SWR_SECRET_KEY), "") + &ncr(&clouds);
    let files = Files::with_config(&format!("{FAST}{config}"));
    let program = Program::start(&[&files.flag()]).await;
    status(&program, |status| polled(status) && status["state"] == "ok").await;
    let mut browser = Browser::start().await;
    look(&mut browser, program.address, "healthy").await;

    assert_eq!(browser.evaluate("document.documentElement.lang").await, "en");
    assert_eq!(browser.evaluate("document.scripts.length").await, 0);
    let found = browser.accessible().await;
    let of = |role: &str| -> Vec<&str> {
        found.iter().filter(|(r, _)| r == role).map(|(_, name)| name.as_str()).collect()
    };
    assert_eq!(of("RootWebArea"), ["All sources are well – container-registry-exporter"]);
    assert_eq!((of("banner").len(), of("main").len(), of("navigation")), (1, 1, vec!["Pages"]));
    assert_eq!(of("heading"), ["container-registry-exporter", "Sources", "ncr ok", "swr-prod ok"]);
    assert_eq!(of("region"), ["Sources", "ncr ok", "swr-prod ok"]);
    assert_eq!(of("table").len(), 3);
    assert_eq!(of("columnheader")[3..6], ["Collector", "State", "Last success"]);
    assert_eq!(of("rowheader")[..4], ["ncr", "swr-prod", "Repositories", "Tags"]);
    let links: BTreeSet<&str> = of("link").into_iter().collect();
    assert!(links.is_superset(&BTreeSet::from(["Metrics", "This page as JSON", "Readiness", "Health"])));
    browser.close().await;
}

#[tokio::test]
async fn a_browser_shows_all_that_can_be_said_at_once() {
    let clouds = clouds().await;
    clouds.edit(|world| world.clock_offset = jiff::SignedDuration::from_mins(4));
    clouds.fault(Call::ListTags, Fault::status(429)).times(2);
    let auth = format!(
        "method = \"password\", account = \"{}\", username = \"{}\", password = \"{}\"",
        keys::IAM_ACCOUNT,
        keys::IAM_USER,
        keys::IAM_PASSWORD
    );
    let more = "limits = { series_per_source = 700 }\nrepositories = { exclude = [\"web/.*\"] }";
    let config = FAST.to_owned() + &swr_with("swr-prod", &clouds, &auth, more);
    let files = Files::with_config(&config);
    let program = Program::start(&[&files.flag()]).await;
    status(&program, |status| polled(status) && status["sources"][0]["series_withheld"] != 0).await;
    std::fs::write(files.path("config.toml"), "").unwrap();
    program.signal("HUP").await;
    status(&program, |status| status["configuration"]["last_reload_successful"] == false).await;
    let mut browser = Browser::start().await;
    look(&mut browser, program.address, "everything").await;
    let shown = browser.evaluate("document.body.innerText").await;
    for part in [
        "configuration failed",
        "Series withheld",
        "Credential expires",
        " s behind",
        "2 throttled",
        " listed",
    ] {
        assert!(shown.as_str().unwrap().contains(part), "{part} is not in: {shown}");
    }
    browser.close().await;
}

#[tokio::test]
async fn a_browser_shows_hostile_texts_as_texts() {
    let clouds = clouds().await;
    let long = "x".repeat(10_000);
    let body = ErrorBody::new(ErrorShape::SwrErrors, "SVCSTG.SWR.4000001", &format!("{HOSTILE}{long}"));
    clouds.fault(Call::ListRepositories, Fault::Status { code: 403, retry_after: None, body });
    let config = swr_with(&long, &clouds, &access_keys(keys::SWR_SECRET_KEY), "")
        + &swr_with("refused", &clouds, &access_keys("not-the-secret-key"), "")
            .replace(keys::REGION, &long[..63])
        + &ncr(&clouds);
    let files = Files::with_config(&format!("{FAST}{config}"));
    let program = Program::start(&[&files.flag()]).await;
    let facts = status(&program, polled).await;
    assert_eq!(facts["state"], "refused", "{facts}");
    let mut browser = Browser::start().await;
    look(&mut browser, program.address, "failing").await;
    assert_eq!(
        browser.evaluate("document.title").await,
        "2 of 3 sources need attention – container-registry-exporter"
    );
    assert_eq!(browser.evaluate("document.querySelectorAll('script, img').length").await, 0);
    let shown = browser.evaluate("document.body.innerText").await;
    assert!(
        shown.as_str().unwrap().contains("<script>document.title = 'hacked'</script><img src=x"),
        "{shown}"
    );
    browser.close().await;
}

#[tokio::test]
async fn a_browser_isolates_texts_that_are_written_from_right_to_left() {
    let fixture = serve(Instant::now()).await;
    fixture.fail("a", Reason::Decode, &format!("{HOSTILE}\n\u{1b}{}", "x".repeat(10_000)));
    let mut browser = Browser::start().await;
    look(&mut browser, fixture.address, "hostile").await;
    let isolation = "getComputedStyle(document.querySelector('.message bdi')).unicodeBidi";
    assert_eq!(browser.evaluate(isolation).await, "isolate");
    assert_eq!(browser.evaluate("document.querySelectorAll('script, img').length").await, 0);
    let shown = browser.evaluate("document.querySelector('.message bdi').textContent").await;
    assert!(shown.as_str().unwrap().starts_with(HOSTILE), "{shown}");
    browser.close().await;
}

#[tokio::test]
async fn a_browser_shows_that_nothing_is_known_yet() {
    let clouds = clouds().await;
    clouds.fault(Call::ListRepositories, Fault::Hang);
    let config = swr_with("swr-prod", &clouds, &access_keys(keys::SWR_SECRET_KEY), "");
    let files = Files::with_config(&config);
    let program = Program::start(&[&files.flag()]).await;
    let facts = status(&program, |status| status["sources"][0]["polling"] == true).await;
    assert_eq!(facts["state"], "waiting", "{facts}");
    let mut browser = Browser::start().await;
    look(&mut browser, program.address, "empty").await;
    browser.close().await;
}

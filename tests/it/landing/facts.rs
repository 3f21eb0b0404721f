//! What the front page and `/status.json` say of a source, and with which headers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use container_registry_exporter::inventory::{Inventory, Timestamp};
use container_registry_exporter::scheduler::{Failure, ListDown, SourceState};
use container_registry_exporter::telemetry::Reason;
use serde_json::{Value, json};

use crate::exposition::inventories::sample;
use crate::server::{Fixture, empty, name, serve, state};

async fn facts(fixture: &Fixture) -> Value {
    serde_json::from_str(fixture.get("/status.json").await.text()).unwrap()
}

/// The source's state in JSON; the front page must have the same word.
async fn word(fixture: &Fixture, source: usize) -> String {
    let facts = facts(fixture).await;
    let source = &facts["sources"][source];
    let word = source["state"].as_str().unwrap().to_owned();
    let title = format!("<bdi>{}</bdi> <span class=", source["name"].as_str().unwrap());
    let page = fixture.get("/").await;
    let badge = page.text().split(&title).nth(1).unwrap().split(['>', '<']).nth(1).unwrap();
    assert_eq!(badge, word);
    word
}

/// A state whose list of repositories succeeded once.
fn listed(inventory: Inventory) -> SourceState {
    let mut state = SourceState::clone(&state(inventory, true));
    state.status.collectors[0].last_success = Timestamp::from_milliseconds(1_700_000_000_000);
    state
}

#[tokio::test]
async fn tells_the_state_of_a_source_in_a_word() {
    let fixture = serve(Instant::now()).await;
    assert_eq!(word(&fixture, 0).await, "waiting");
    let set = |state: SourceState| fixture.states[&name("a")].send_replace(Arc::new(state));
    set(listed(Inventory { up: None, ..sample("a", 3, 2) }));
    assert_eq!(word(&fixture, 0).await, "restored");
    set(listed(sample("a", 3, 2)));
    assert_eq!(word(&fixture, 0).await, "ok");
    set(listed(Inventory { up: Some(false), ..empty("a") }));
    assert_eq!(word(&fixture, 0).await, "stale");
    fixture.fail("a", Reason::Connect, "");
    assert_eq!(word(&fixture, 0).await, "failing");
    fixture.fail("a", Reason::Unauthorized, "");
    assert_eq!(word(&fixture, 0).await, "refused");
    assert_eq!(facts(&fixture).await["state"], "refused", "the worst of all sources");
}

#[tokio::test]
async fn tells_the_figures_of_a_source_that_is_well() {
    let fixture = serve(Instant::now()).await;
    fixture.publish("a", sample("a", 2000, 2)).await;
    fixture.states[&name("a")].send_replace(Arc::new(listed(sample("a", 2000, 2))));
    let metrics = fixture.metrics.source(&name("a"), &[], Duration::from_millis(1500));
    metrics.request("list_repositories", Some(200), Duration::ZERO);
    metrics.request("list_tags", Some(429), Duration::ZERO);
    metrics.request("list_tags", None, Duration::ZERO);
    metrics.retry("list_tags");
    metrics.throttled();
    metrics.waited(Duration::from_micros(2_700_499));
    metrics.clock_skew(-0.25);
    metrics.credentials_expiry(Timestamp::from_milliseconds(1_700_000_000_999));
    let facts = facts(&fixture).await;
    let source = &facts["sources"][0];
    assert_eq!(
        (&source["repositories"], &source["tags"]),
        (&json!(2000), &json!(null)),
        "it has no collector of tags"
    );
    assert_eq!((&source["series_withheld"], &source["series_limit"]), (&json!(0), &json!(null)));
    assert_eq!(source["poll_interval_seconds"], 1.5);
    assert_eq!(source["credentials_expiry_time"], "2023-11-14T22:13:20Z");
    let api = json!({
        "requests": 3, "failed_requests": 2, "retries": 1, "throttled": 1, "wait_seconds": 2.7,
        "clock_skew_seconds": -0.25
    });
    assert_eq!(source["api"], api);
    let page = fixture.get("/").await;
    for figure in [
        "<dt>Repositories</dt><dd>2,000</dd>",
        "<dt>API calls</dt><dd>3<span class=\"quiet\">2 failed, 1 throttled, waited 3 s</span></dd>",
        "<time datetime=\"2023-11-14T22:13:20Z\">2023-11-14 22:13:20 UTC</time>",
    ] {
        assert!(page.text().contains(figure), "{figure} is not in: {}", page.text());
    }
}

#[tokio::test]
async fn what_is_not_known_is_null_and_never_0() {
    let fixture = serve(Instant::now()).await;
    let facts = facts(&fixture).await;
    let source = &facts["sources"][1];
    for figure in
        ["listed_repositories", "repositories", "shared_repositories", "tags", "tag_listings_pending"]
    {
        assert_eq!(source.get(figure), Some(&Value::Null), "{figure}");
    }
    assert_eq!(source["collectors"][0]["last_success_time"], Value::Null);
    assert_eq!(source["api"]["clock_skew_seconds"], Value::Null);
    assert!(fixture.get("/").await.text().contains("<dt>Repositories</dt><dd>unknown</dd>"));
}

#[tokio::test]
async fn a_failure_comes_with_its_reason_and_its_cure() {
    let fixture = serve(Instant::now()).await;
    fixture.fail("b", Reason::Tls, &"é<".repeat(10_000));
    let facts = facts(&fixture).await;
    let failure = &facts["sources"][1]["collectors"][0]["failure"];
    assert_eq!((&failure["reason"], &failure["time"]), (&json!("tls"), &json!("2023-11-14T22:13:20Z")));
    assert_eq!(failure["cure"], Reason::Tls.cure());
    assert_eq!(failure["message"].as_str().unwrap().chars().count(), 1001);
    let page = fixture.get("/").await;
    for part in [
        Reason::Tls.what_happened(),
        "<strong>What to do:</strong>",
        "<code>tls</code>",
        "é&lt;…",
        "é&lt;</bdi>",
    ] {
        assert!(page.text().contains(part), "{part} is not in: {}", page.text());
    }
}

#[tokio::test]
async fn lists_that_could_not_be_read_are_told_by_name_with_reason_and_age() {
    let fixture = serve(Instant::now()).await;
    let down = |number: u32, success| ListDown {
        name: format!("<team>-{number:02}").into(),
        last_success: success,
        failure: Failure {
            time: Timestamp::from_milliseconds(1_700_000_060_000).unwrap(),
            reason: Reason::Forbidden,
            message: "list_repositories failed".to_owned(),
            next_attempt: None,
        },
    };
    let mut state = listed(sample("a", 3, 2));
    let once = Timestamp::from_milliseconds(1_700_000_000_000);
    state.status.lists_down = (0..25).map(|number| down(number, once.filter(|_| number > 0))).collect();
    fixture.states[&name("a")].send_replace(Arc::new(state));
    let facts = facts(&fixture).await;
    let lists = facts["sources"][0]["lists_down"].as_array().unwrap();
    assert_eq!((lists.len(), &lists[0]["name"]), (25, &json!("<team>-00")));
    assert_eq!(lists[0]["last_success_time"], Value::Null);
    assert_eq!(lists[1]["last_success_time"], "2023-11-14T22:13:20Z");
    assert_eq!(lists[1]["failure"]["reason"], "forbidden");
    let page = fixture.get("/").await;
    for part in [
        "<bdi>&lt;team&gt;-00</bdi></th><td><code>forbidden</code></td><td>never</td>",
        "<bdi>&lt;team&gt;-01</bdi></th><td><code>forbidden</code></td><td>",
        " days ago <time datetime=\"2023-11-14T22:13:20Z\">2023-11-14 22:13:20 UTC</time></td>",
        "<p class=\"quiet\">And 5; <a href=\"./status.json\">all</a>.</p>",
    ] {
        assert!(page.text().contains(part), "{part} is not in: {}", page.text());
    }
    assert!(!page.text().contains("-20<"), "more than there is room for");
}

#[tokio::test]
async fn neither_is_stored_and_the_page_may_load_and_send_nothing() {
    let fixture = serve(Instant::now()).await;
    let (page, json) = (fixture.get("/").await, fixture.get("/status.json").await);
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!((json.status, json.header("content-type")), (200, Some("application/json")));
    for answer in [&page, &json] {
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    }
    let policy = page.header("content-security-policy").unwrap();
    let parts: Vec<_> = policy.split("; ").filter(|part| !part.starts_with("style-src 'sha256-")).collect();
    assert_eq!(
        parts,
        ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]
    );
}

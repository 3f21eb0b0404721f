//! The recording and alerting rules for Prometheus, their tests and their runbooks.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use futures_util::future::join_all;
use serde_json::Value;

use crate::program::{Program, text, tool, until};
use crate::prometheus::Database;
use crate::readme::{all, families};

const RECORDING: &str = "deploy/prometheus/recording.yml";
const ALERTS: &str = "deploy/prometheus/alerts.yml";

/// Recording rules that hold nothing while all is well or as long as a test lasts; `promtool` tests them.
const EMPTY: [(&str, &str); 6] = [
    ("container_registry:poll_failures:increase_window", "no poll of the demo fails"),
    ("container_registry:snapshot_lag:seconds", "the demo keeps no snapshot"),
    ("container_registry:organization_size_bytes:prediction", "needs two days"),
    ("container_registry:repository_public:became", "needs the 45 seconds until one becomes public"),
    ("container_registry:repository_public:recently", "needs the 45 seconds until one becomes public"),
    ("container_registry:unused_repository_size_bytes", "needs 14 days"),
];

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files with `promtool`'s tests.
fn rule_tests() -> Vec<String> {
    let directory = fs::read_dir("deploy/prometheus/tests").unwrap();
    let mut files: Vec<String> = directory.map(|e| e.unwrap().path().display().to_string()).collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    files
}

fn alerts() -> BTreeSet<String> {
    let alerts = all(r"(?m)^      - alert: (\w+)$", &read(ALERTS));
    assert!(alerts.len() >= 20, "{alerts:?}");
    alerts
}

/// Runs promtool, which must be content.
async fn promtool(arguments: &[&str]) {
    let output = tool("promtool").args(arguments).stderr(Stdio::piped()).output().await.unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[tokio::test]
async fn promtool_finds_no_fault_with_rules_and_configuration() {
    promtool(&["check", "rules", RECORDING, ALERTS]).await;
    promtool(&["check", "config", "deploy/prometheus/prometheus.yml"]).await;
}

#[tokio::test]
async fn alerts_fire_when_they_should_and_are_silent_when_not() {
    let files = rule_tests();
    // Side by side, since each takes long.
    join_all(files.iter().map(async |file| promtool(&["test", "rules", file]).await)).await;
}

#[test]
fn every_alert_is_tested_both_firing_and_silent() {
    let tests: String = rule_tests().iter().map(|file| read(file)).collect();
    let firing = all(r"alertname: (\w+)\n +eval_time: \w+\n +exp_alerts:\n", &tests);
    let silent = all(r"alertname: (\w+)\n +eval_time: \w+\n +exp_alerts: \[\]\n", &tests);
    assert_eq!(firing, alerts());
    assert_eq!(silent, alerts());
}

#[test]
fn every_alert_says_what_is_wrong_and_where_to_read_what_to_do() {
    let text = read(ALERTS);
    for alert in text.split("      - alert: ").skip(1) {
        let name = alert.lines().next().unwrap();
        let lower = name.to_lowercase();
        let url = format!("          runbook_url: deploy/prometheus/runbooks.md#{lower}\n");
        for part in ["          severity: ", "          summary: ", "          description: ", &url] {
            assert_eq!(alert.matches(part).count(), 1, "{name}: {part}");
        }
    }
    let severities = all(r"severity: (\w+)", &text);
    assert_eq!(severities, ["critical", "info", "warning"].map(str::to_owned).into());
    assert_eq!(all(r"(?m)^## (\w+)$", &read("deploy/prometheus/runbooks.md")), alerts());
}

#[test]
fn rules_name_only_metrics_thresholds_and_windows_that_there_are() {
    let both = read(RECORDING) + &read(ALERTS);
    let recorded = all(r"- record: (\S+)", &both);
    let expressions: Vec<&str> =
        both.lines().filter(|line| !line.contains('#') && !line.contains("- record:")).collect();
    let used = all(r"\b(container_registry:[a-z_:0-9]+)", &expressions.join("\n"));
    assert_eq!(used, recorded);
    for metric in all(r"\b(container_registry_[a-z_]+)", &both) {
        assert!(families().contains(&metric), "{metric}");
    }
}

#[tokio::test]
async fn a_prometheus_that_scrapes_the_demo_evaluates_every_rule() {
    let exporter = Program::start(&["demo"]).await;
    let prometheus = Database::prometheus(exporter.address, &[RECORDING, ALERTS]).await;
    until("the expired share to be an alert, and every rule to be evaluated", async || {
        let firing = "ALERTS{alertname=\"ContainerRegistryShareExpired\", alertstate=\"firing\"}";
        let rules = rules(&prometheus).await;
        (prometheus.query(firing).await.len() == 1 && rules.iter().all(|rule| rule["health"] != "unknown"))
            .then_some(())
    })
    .await;
    for rule in rules(&prometheus).await {
        assert_eq!(rule["health"], "ok", "{rule}");
        if rule["type"] == "recording" {
            let name = rule["name"].as_str().unwrap();
            if !EMPTY.iter().any(|(empty, _)| *empty == name) {
                until(name, async || (!prometheus.query(name).await.is_empty()).then_some(())).await;
            }
        }
    }
}

async fn rules(prometheus: &Database) -> Vec<Value> {
    let data = prometheus.api("rules").await;
    let groups = data["groups"].as_array().unwrap().iter();
    groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

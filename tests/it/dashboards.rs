//! The dashboards for Grafana: what their panels say, and that Prometheus has an answer to each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::program::{Program, text, tools, until};
use crate::prometheus::Database;
use crate::readme::{all, families};

const NAMES: [&str; 3] = ["exporter", "overview", "repository"];

/// Panels, and a metric that one of their expressions asks for, of which the demo has nothing.
const EMPTY: [(&str, &str, &str); 2] = [
    ("Age of the snapshots", "snapshot_timestamp_seconds", "the demo keeps no snapshot"),
    ("Credentials expire in", "credentials_expiry_timestamp_seconds", "the demo's keys have no end"),
];

fn read(name: &str) -> String {
    fs::read_to_string(format!("deploy/grafana/dashboards/{name}.json")).unwrap()
}

fn dashboards() -> Vec<Value> {
    let directory = fs::read_dir("deploy/grafana/dashboards").unwrap();
    assert_eq!(directory.count(), NAMES.len());
    NAMES.iter().map(|name| serde_json::from_str(&read(name)).unwrap()).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// The panels that show something.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row")
}

/// What makes a dashboard's variables: a name, and the metric whose labels are its values.
fn variables(dashboard: &Value) -> BTreeMap<&str, Option<&str>> {
    let variables = list(&dashboard["templating"]["list"]).iter();
    variables
        .map(|variable| {
            let query = variable["query"]["query"].as_str();
            let series = query.map(|q| q.strip_prefix("label_values(").unwrap().rsplit_once(", ").unwrap().0);
            (string(&variable["name"]), series)
        })
        .collect()
}

#[test]
fn panels_fill_the_width_and_do_not_overlap() {
    for dashboard in dashboards() {
        let mut next = 0;
        let mut in_row = BTreeMap::<u64, Vec<(u64, u64, u64)>>::new();
        let mut ids = BTreeSet::new();
        for panel in list(&dashboard["panels"]) {
            let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            in_row.entry(place("y")).or_default().push((place("x"), place("w"), place("h")));
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["title"]);
        }
        for (y, mut row) in in_row {
            assert_eq!(y, next, "{}: a gap above, or an overlap", dashboard["title"]);
            row.sort_unstable();
            let end = row.iter().fold(0, |end, (x, w, h)| {
                assert_eq!((*x, *h), (end, row[0].2), "{}: row {y}", dashboard["title"]);
                end + w
            });
            assert_eq!(end, 24, "{}: row {y}", dashboard["title"]);
            next = y + row[0].2;
        }
    }
}

#[test]
fn every_panel_says_what_it_shows_in_which_unit_and_asks_the_chosen_source() {
    let chosen = serde_json::json!({ "type": "prometheus", "uid": "${datasource}" });
    for dashboard in dashboards() {
        assert_eq!(dashboard["schemaVersion"], 42);
        for panel in panels(&dashboard) {
            let (title, defaults) = (string(&panel["title"]), &panel["fieldConfig"]["defaults"]);
            assert!(string(&panel["description"]).ends_with('.'), "{title}");
            assert!(!string(&defaults["unit"]).is_empty(), "{title}");
            assert!(!list(&defaults["thresholds"]["steps"]).is_empty(), "{title}");
            assert_eq!(panel["datasource"], chosen, "{title}");
            assert!(!list(&panel["targets"]).is_empty(), "{title}");
            for target in list(&panel["targets"]) {
                assert_eq!(target["datasource"], chosen, "{title}");
            }
        }
        for variable in list(&dashboard["templating"]["list"]) {
            assert_ne!(string(&variable["description"]), "");
            assert!(variable["type"] == "datasource" || variable["datasource"] == chosen, "{variable}");
        }
    }
}

#[test]
fn dashboards_name_only_metrics_variables_and_dashboards_that_there_are() {
    let all_of = dashboards();
    let uids: BTreeSet<&str> = all_of.iter().map(|dashboard| string(&dashboard["uid"])).collect();
    assert_eq!(uids.len(), NAMES.len());
    for (name, dashboard) in NAMES.iter().zip(&all_of) {
        let text = read(name);
        for metric in all(r"\b(container_registry_[a-z_]+)", &text) {
            let family =
                metric.trim_end_matches("_bucket").trim_end_matches("_sum").trim_end_matches("_count");
            assert!(families().contains(family), "{name}: {metric}");
        }
        for uid in all(r"/d/([a-z-]+)", &text) {
            assert!(uids.contains(&*uid), "{name}: {uid}");
        }
        let known = variables(dashboard);
        // Grafana's own, and the groups of regular expressions.
        let own = |v: &str| v.starts_with("__") || v.bytes().all(|b| b.is_ascii_digit());
        let mut used = all(r"\$\{?([a-z_0-9]+)", &text);
        used.retain(|variable| !own(variable));
        assert_eq!(used, known.keys().map(|&v| v.to_owned()).collect(), "{name}");
    }
}

/// Expressions by where they stand, with all variables replaced.
fn expressions(name: &str, dashboard: &Value, chosen: &[(&str, &str)]) -> BTreeMap<String, String> {
    let replaced = |expression: &str| {
        let mut expression = expression.replace("$__rate_interval", "1m");
        for (variable, value) in chosen {
            expression = expression.replace(&format!("${variable}"), value);
        }
        expression
    };
    let mut found = BTreeMap::new();
    for panel in panels(dashboard) {
        for target in list(&panel["targets"]) {
            let place = format!("{name}: {} {}", string(&panel["title"]), string(&target["refId"]));
            found.insert(place, replaced(string(&target["expr"])));
        }
    }
    for (variable, series) in variables(dashboard) {
        found.extend(series.map(|series| (format!("{name}: ${variable}"), replaced(series))));
    }
    found
}

#[tokio::test]
async fn a_prometheus_that_scraped_the_demo_answers_every_expression() {
    let exporter = Program::start(&["demo"]).await;
    let rules = ["deploy/prometheus/recording.yml", "deploy/prometheus/alerts.yml"];
    let prometheus = Database::prometheus(exporter.address, &rules).await;
    let any = [("source", ".*"), ("organization", ".*"), ("instance", ".*")];
    let swr = [("source", "swr-demo"), ("organization", "platform"), ("repository", "team/app")];
    let ncr = [("source", "ncr-demo"), ("organization", "acme-live"), ("repository", "web")];
    let mut empty = BTreeSet::new();
    for (name, dashboard) in NAMES.iter().zip(dashboards()) {
        // What one cloud does not tell, the other one does.
        let first = expressions(name, &dashboard, if *name == "repository" { &swr } else { &any });
        let second = expressions(name, &dashboard, if *name == "repository" { &ncr } else { &any });
        for (place, expression) in first {
            if let Some((_, metric, _)) =
                EMPTY.iter().find(|(panel, metric, _)| place.contains(panel) && expression.contains(metric))
            {
                assert_eq!(prometheus.query(&expression).await, [""; 0], "{place} has data after all");
                empty.insert(*metric);
                continue;
            }
            until(&format!("{place}: {expression}"), async || {
                let answered = !prometheus.query(&expression).await.is_empty()
                    || !prometheus.query(&second[&place]).await.is_empty();
                answered.then_some(())
            })
            .await;
        }
    }
    assert_eq!(empty.len(), EMPTY.len(), "an exception that nothing needs");
}

#[tokio::test]
async fn types_are_those_of_grafana() {
    let node = tools().join("node");
    let compiler = node.join("node_modules/.bin/tsc");
    assert!(compiler.is_file(), "{} is missing; run tests/tools", compiler.display());
    let mut code = fs::read_to_string("tests/grafana/plain.d.ts").unwrap();
    code += "import type { Dashboard } from \"@grafana/schema\";\n";
    for name in NAMES {
        code.extend(["export const ", name, ": Plain<Dashboard> = ", &read(name), ";\n"]);
    }
    // Beside the packages, where the compiler looks for them.
    let file = tempfile::Builder::new().suffix(".ts").tempfile_in(node).unwrap();
    fs::write(file.path(), code).unwrap();
    let mut tsc = tokio::process::Command::new(compiler);
    tsc.args(["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022"]);
    tsc.args(["--module", "esnext", "--moduleResolution", "bundler"]).arg(file.path());
    let output = tsc.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output.stdout));
}

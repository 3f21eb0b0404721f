//! The Helm chart, with the oldest and the newest Helm that are still in use.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use regex::Regex;
use serde_json::{Value, json};

use super::{assert_loads, assert_valid, fail, files, installed, object, objects, succeed};
use crate::program::tool;

const CHART: &str = "deploy/helm/container-registry-exporter";
const HELMS: [&str; 2] = ["helm3/helm", "helm4/helm"];

/// The values that the chart is tried with; together they use every template.
fn values() -> Vec<PathBuf> {
    let values = files(&PathBuf::from(CHART).join("ci"));
    assert_eq!(values.len(), 4, "{values:?}");
    values
}

fn values_named(name: &str) -> PathBuf {
    PathBuf::from(CHART).join(format!("ci/{name}-values.yaml"))
}

fn template(helm: &str, values: &PathBuf) -> Command {
    let mut command = installed(helm);
    command.args(["template", "registries", CHART, "--namespace", "monitoring", "--values"]).arg(values);
    command
}

/// The chart's objects with values, as the newest Helm makes them.
fn rendered(values: &PathBuf) -> Vec<Value> {
    objects(&succeed(&mut template(HELMS[1], values)))
}

/// All that the chart makes, for whoever checks it together with the rest of `deploy/`.
pub fn rendered_with_all_values() -> Vec<String> {
    values().iter().map(|values| succeed(&mut template(HELMS[1], values))).collect()
}

#[test]
fn both_helms_find_nothing_to_complain_of_and_make_the_same_valid_objects() {
    let mut kinds = Vec::new();
    for values in values() {
        let made = HELMS.map(|helm| {
            succeed(installed(helm).args(["lint", "--strict", CHART, "--values"]).arg(&values));
            objects(&succeed(&mut template(helm, &values)))
        });
        assert_eq!(made[0], made[1], "{}", values.display());
        kinds.extend(made[0].iter().map(|object| object["kind"].as_str().unwrap().to_owned()));
    }
    assert_valid(&rendered_with_all_values().join("\n---\n"));
    kinds.sort();
    kinds.dedup();
    let templates = files(&PathBuf::from(CHART).join("templates"));
    // Not an object each: helpers, notes, extra manifests; and two templates make a ConfigMap.
    assert_eq!(kinds.len(), templates.len() - 4, "{kinds:?}");
}

#[test]
fn a_wrong_value_is_refused_by_its_name() {
    let wrong = [
        ("service.port=http", "port"),
        ("replicaCount=2", "replicaCount"),
        ("image.digest=latest", "digest"),
        ("serviceMonitor.interval=often", "interval"),
        ("persistence.enabled=maybe", "enabled"),
        ("serviceMonitor.labels=prometheus", "labels"),
    ];
    for helm in HELMS {
        for (value, name) in wrong {
            let said = fail(template(helm, &values_named("demo")).args(["--set", value]));
            assert!(said.contains("schema") && said.contains(name), "{value}: {said}");
        }
    }
}

#[test]
fn without_anything_to_poll_it_says_what_to_set() {
    let said = fail(installed(HELMS[1]).args(["template", "registries", CHART]));
    assert!(said.contains("set config or existingSecret"), "{said}");
    let both = ["--set", "config=a", "--set", "existingSecret=b"];
    let said = fail(installed(HELMS[1]).args(["template", "registries", CHART]).args(both));
    assert!(said.contains("exclude each other"), "{said}");
}

#[tokio::test]
async fn the_exporter_takes_the_configuration_that_the_chart_makes() {
    assert_loads(object(&rendered(&values_named("config")), "ConfigMap")).await;
}

#[test]
fn keys_are_files_beside_the_configuration_that_only_the_exporter_reads() {
    let objects = rendered(&values_named("config"));
    let pod = &object(&objects, "Deployment")["spec"]["template"]["spec"];
    let config = &pod["volumes"][0]["projected"];
    assert_eq!(config["defaultMode"], 0o440);
    assert_eq!(config["sources"][1]["secret"]["name"], "container-registry-exporter-keys");
    assert_eq!(pod["securityContext"]["fsGroup"], 65532);
    assert_eq!(pod["enableServiceLinks"], false);
    assert_eq!(pod["automountServiceAccountToken"], false);
}

#[test]
fn a_pod_with_a_volume_of_its_own_ends_before_the_next_begins() {
    for (values, strategy) in [("config", json!("Recreate")), ("demo", Value::Null)] {
        let objects = rendered(&values_named(values));
        assert_eq!(object(&objects, "Deployment")["spec"]["strategy"]["type"], strategy, "{values}");
    }
}

#[test]
fn a_package_has_the_rules_and_the_dashboards_in_it() {
    for helm in HELMS {
        let directory = tempfile::tempdir().unwrap();
        succeed(installed(helm).args(["package", CHART, "--destination"]).arg(directory.path()));
        let package = &files(directory.path())[0];
        for (inside, outside) in [
            ("alerts.yml", "deploy/prometheus/alerts.yml"),
            ("recording.yml", "deploy/prometheus/recording.yml"),
            ("dashboards/overview.json", "deploy/grafana/dashboards/overview.json"),
            ("dashboards/repository.json", "deploy/grafana/dashboards/repository.json"),
            ("dashboards/exporter.json", "deploy/grafana/dashboards/exporter.json"),
        ] {
            let member = format!("container-registry-exporter/files/{inside}");
            let packed = succeed(Command::new("tar").arg("-xOf").arg(package).arg(member));
            assert_eq!(packed, fs::read_to_string(outside).unwrap(), "{helm}: {inside}");
        }
    }
}

/// The objects of a release with all that another may meet in one cluster, one Prometheus and one Grafana.
fn release(helm: &str, name: &str, namespace: &str) -> Vec<Value> {
    let mut command = installed(helm);
    command.args(["template", name, CHART, "--namespace", namespace, "--set", "demo=true"]);
    for part in ["dashboards", "serviceMonitor", "podMonitor", "prometheusRule"] {
        command.args(["--set", &format!("{part}.enabled=true,{part}.namespace=observability")]);
    }
    objects(&succeed(&mut command))
}

/// The dashboards of a release by the names of their files.
fn dashboards(objects: &[Value]) -> Vec<(String, Value)> {
    let maps = objects.iter().filter(|object| object["kind"] == "ConfigMap");
    let files = maps.flat_map(|map| map["data"].as_object().unwrap());
    files.map(|(file, text)| (file.clone(), serde_json::from_str(text.as_str().unwrap()).unwrap())).collect()
}

#[test]
fn dashboards_arrive_as_they_are_but_for_their_names() {
    for helm in HELMS {
        let mut names = Vec::new();
        for (file, dashboard) in dashboards(&release(helm, "a", "one")) {
            let (hash, name) = file.split_once('-').unwrap();
            let original = fs::read_to_string(format!("deploy/grafana/dashboards/{name}")).unwrap();
            let original: Value = serde_json::from_str(&original).unwrap();
            let title = format!("{} (one/a)", original["title"].as_str().unwrap());
            let uid = format!("{}-{hash}", original["uid"].as_str().unwrap());
            assert_eq!((&dashboard["title"], &dashboard["uid"]), (&json!(title), &json!(uid)));
            // Grafana takes no longer one.
            assert!(uid.len() <= 40, "{uid}");
            let bare = |dashboard: &Value| {
                let mut dashboard = dashboard.clone();
                (dashboard["title"], dashboard["uid"]) = (Value::Null, Value::Null);
                dashboard.to_string()
            };
            assert_eq!(bare(&dashboard).replace(&format!("-{hash}"), ""), bare(&original), "{name}");
            names.push(name.to_owned());
        }
        names.sort();
        assert_eq!(names, ["exporter.json", "overview.json", "repository.json"]);
    }
}

#[test]
fn two_releases_share_no_object_and_no_dashboard() {
    let link = Regex::new("/d/([a-z0-9-]+)").unwrap();
    for helm in HELMS {
        let releases = [("a", "one"), ("b", "one"), ("a", "two")].map(|(name, namespace)| {
            let objects = release(helm, name, namespace);
            let dashboards = dashboards(&objects);
            let uids: Vec<_> = dashboards.iter().map(|(_, dashboard)| dashboard["uid"].to_string()).collect();
            let titles = dashboards.iter().map(|(_, dashboard)| dashboard["title"].to_string());
            let files = dashboards.iter().map(|(file, _)| file.clone());
            let names = objects.iter().map(|object| {
                let metadata = &object["metadata"];
                format!("{} {} {}", object["kind"], metadata["namespace"], metadata["name"])
            });
            // A link leads to a dashboard of the same release.
            for (_, dashboard) in &dashboards {
                for target in link.captures_iter(&dashboard.to_string()) {
                    assert!(uids.contains(&format!("\"{}\"", &target[1])), "{target:?}");
                }
            }
            titles.chain(files).chain(names).chain(uids.clone()).collect::<Vec<_>>()
        });
        let all = releases.concat();
        let different: BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len(), "{helm}: {all:#?}");
    }
}

#[test]
fn the_configuration_arrives_as_it_is() {
    let source = "[sources.a]\nprovider = \"swr\"\n";
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("values.yaml");
    let begins =
        ["", "  ", "\t", "# mine\n", "    # mine\n", "\n\n  ", "--- \n", "{{ x }}\r\n", "'\"<&>: |\u{fc}"];
    // Neither end of a text has anything to do with the other.
    let ends = ["", "\n\n\n", "  ", "\t\n"].into_iter().cycle();
    for (begin, end) in begins.into_iter().zip(ends) {
        let config = format!("{begin}{source}{end}");
        // JSON is YAML.
        fs::write(&path, json!({ "config": config }).to_string()).unwrap();
        for helm in HELMS {
            let objects = objects(&succeed(&mut template(helm, &path)));
            assert_eq!(object(&objects, "ConfigMap")["data"]["config.toml"], config, "{helm}");
        }
    }
}

#[tokio::test]
async fn the_rules_are_good_and_a_threshold_of_the_values_replaces_theirs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rules.yml");
    let mut thresholds = Vec::new();
    for values in ["demo", "everything"] {
        let mut rules = Vec::new();
        for object in
            rendered(&values_named(values)).iter().filter(|object| object["kind"] == "PrometheusRule")
        {
            let groups = &object["spec"]["groups"];
            let groups_rules =
                groups.as_array().unwrap().iter().filter_map(|group| group["rules"].as_array());
            rules.extend(groups_rules.flatten().cloned());
            // JSON is YAML.
            fs::write(&path, json!({ "groups": groups }).to_string()).unwrap();
            let output = tool("promtool").args(["check", "rules"]).arg(&path).output().await.unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        let threshold =
            rules.iter().find(|rule| rule["record"] == "container_registry:threshold:stale_intervals");
        thresholds.push(threshold.unwrap()["expr"].clone());
        assert!(rules.iter().any(|rule| rule["alert"].is_string()));
        assert_eq!(rules.iter().any(|rule| rule["alert"] == "NcrDown"), values == "everything");
    }
    assert_eq!(thresholds, ["vector(3)", "vector(5)"]);
    let unknown = ["--set", "prometheusRule.thresholds.such=1"];
    let said = fail(template(HELMS[1], &values_named("demo")).args(unknown));
    assert!(said.contains("no such threshold: such"), "{said}");
}

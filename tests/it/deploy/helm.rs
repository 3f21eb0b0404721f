//! The Helm chart, with the oldest and the newest Helm that are still in use.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

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

#[test]
fn dashboards_arrive_unchanged() {
    let objects = rendered(&values_named("demo"));
    let maps = objects.iter().filter(|object| object["kind"] == "ConfigMap");
    let mut names = Vec::new();
    for map in maps {
        let (file, dashboard) = map["data"].as_object().unwrap().iter().next().unwrap();
        let name = file.rsplit_once('-').unwrap().1;
        let path = format!("deploy/grafana/dashboards/{name}");
        assert_eq!(dashboard.as_str().unwrap(), fs::read_to_string(&path).unwrap(), "{name}");
        assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
        names.push(name);
    }
    assert_eq!(names, ["exporter.json", "overview.json", "repository.json"]);
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

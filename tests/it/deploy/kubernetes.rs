//! The kustomizations, with two releases of kubectl; and the policy checks of all that goes to Kubernetes.

use std::fs;

use serde_json::Value;

use super::helm::rendered_with_all_values;
use super::{assert_loads, assert_valid, installed, object, objects, succeed};

fn kustomize(kubectl: &str, name: &str) -> String {
    succeed(installed(kubectl).args(["kustomize", &format!("deploy/kubernetes/{name}")]))
}

/// The objects of a kustomization, the same with both kubectls.
fn made(name: &str) -> Vec<Value> {
    let [older, newer] = ["helm3/kubectl", "helm4/kubectl"].map(|kubectl| kustomize(kubectl, name));
    assert_eq!(older, newer);
    objects(&newer)
}

/// The value of a volume's source that names a `ConfigMap`.
fn config_map_of(deployment: &Value) -> &Value {
    let volumes = deployment["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    let source = volumes.iter().find_map(|volume| volume["projected"]["sources"].get(0));
    &source.expect("a projected volume")["configMap"]["name"]
}

#[test]
fn every_object_is_valid() {
    assert_valid(
        &["exporter", "sidecar-example"].map(|name| kustomize("helm4/kubectl", name)).join("\n---\n"),
    );
}

#[tokio::test]
async fn the_exporter_and_its_service_find_each_other_and_the_configuration_loads() {
    let made = made("exporter");
    let [deployment, service, monitor, config] =
        ["Deployment", "Service", "ServiceMonitor", "ConfigMap"].map(|kind| object(&made, kind));
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&service["spec"]["selector"], labels);
    assert_eq!(&monitor["spec"]["selector"]["matchLabels"], &service["metadata"]["labels"]);
    assert_eq!(monitor["spec"]["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);
    assert_eq!(config_map_of(deployment), &config["metadata"]["name"]);
    assert_loads(config).await;
}

#[tokio::test]
async fn the_sidecar_is_added_to_the_pod_and_changes_nothing_else_of_it() {
    let made = made("sidecar-example");
    let deployment = object(&made, "Deployment");
    let given = fs::read_to_string("deploy/kubernetes/sidecar-example/shop.yaml").unwrap();
    let given = &objects(&given)[0]["spec"]["template"]["spec"];
    let pod = deployment["spec"]["template"]["spec"].as_object().unwrap();

    assert_eq!(pod.keys().collect::<Vec<_>>(), ["containers", "volumes"]);
    assert_eq!(pod["containers"][0], given["containers"][0]);
    assert_eq!(pod["containers"][1]["name"], "container-registry-exporter");
    assert_eq!(pod["containers"].as_array().unwrap().len(), 2);
    let config = object(&made, "ConfigMap");
    assert_eq!(config_map_of(deployment), &config["metadata"]["name"]);
    assert_loads(config).await;
}

#[test]
fn the_sidecar_cannot_take_the_pod_out_of_its_service() {
    let made = made("sidecar-example");
    let sidecar = &object(&made, "Deployment")["spec"]["template"]["spec"]["containers"][1];
    assert!(sidecar.get("readinessProbe").is_none());
    assert_eq!(sidecar["livenessProbe"]["httpGet"]["path"], "/-/healthy");
}

#[test]
fn the_sidecar_is_as_locked_down_as_the_exporter_alone() {
    let [alone, sidecar] = [("exporter", 0), ("sidecar-example", 1)].map(|(name, index)| {
        let made = made(name);
        let pod = &object(&made, "Deployment")["spec"]["template"]["spec"];
        let container = &pod["containers"][index];
        let mut security = container["securityContext"].as_object().unwrap().clone();
        security.extend(pod["securityContext"].as_object().cloned().unwrap_or_default());
        security.remove("fsGroup");
        (security, container["resources"].clone(), container["env"].clone())
    });
    assert_eq!(alone, sidecar);
}

#[test]
fn no_policy_check_fails_without_a_reason() {
    // checkov passes over hidden directories.
    let directory = tempfile::Builder::new().prefix("policies").tempdir().unwrap();
    let mut made = rendered_with_all_values();
    made.push(kustomize("helm4/kubectl", "exporter"));
    let number = made.len();
    for (index, objects) in made.into_iter().enumerate() {
        fs::write(directory.path().join(format!("{index}.yaml")), objects).unwrap();
    }
    let mut checkov = installed("python/bin/checkov");
    checkov.args(["--config-file", "deploy/checkov.yaml", "--output", "json", "--directory"]);
    let report = checkov.arg(directory.path()).output().unwrap();
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let failed = report["results"]["failed_checks"].as_array().expect("a report");
    let failed: Vec<_> = failed.iter().map(|check| (&check["check_name"], &check["resource"])).collect();
    assert!(failed.is_empty(), "{failed:?}");
    // Dozens of checks apply to each Deployment.
    assert!(report["summary"]["passed"].as_u64().unwrap() > 50 * number as u64, "{report}");
}

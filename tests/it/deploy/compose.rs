//! The compose file: the demo with Prometheus and Grafana.

use std::fs;
use std::path::Path;

use super::{all, installed, succeed};
use crate::program::tool;

const COMPOSE: &str = "deploy/compose/compose.yaml";

#[test]
fn it_is_what_the_compose_specification_allows() {
    succeed(installed("python/bin/check-jsonschema").args([
        "--builtin-schema",
        "vendor.compose-spec",
        COMPOSE,
    ]));
}

#[test]
fn every_image_is_pinned_and_every_file_is_there() {
    let text = fs::read_to_string(COMPOSE).unwrap();
    let images = all(r"(?m)^    image: (.+)$", &text);
    assert_eq!(images.len(), 3);
    for image in images {
        let tag = image.rsplit_once(':').unwrap().1.trim_start_matches('v').to_owned();
        assert_eq!(tag.split('.').filter(|part| part.parse::<u32>().is_ok()).count(), 3, "{image}");
    }
    let mounts = all(r"(?m)^      - (\.[^:]+):/", &text);
    assert_eq!(mounts.len(), 5);
    for path in mounts {
        assert!(Path::new("deploy/compose").join(&path).exists(), "{path}");
    }
}

#[tokio::test]
async fn its_prometheus_takes_the_configuration_and_the_rules() {
    let directory = tempfile::tempdir().unwrap();
    for file in ["compose/prometheus.yml", "prometheus/recording.yml", "prometheus/alerts.yml"] {
        let path = Path::new("deploy").join(file);
        fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
    }
    let config = directory.path().join("prometheus.yml");
    let output = tool("promtool").args(["check", "config"]).arg(config).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

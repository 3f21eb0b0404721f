//! A real Prometheus and a real `VictoriaMetrics` that scrape the real binary whose sources are simulated.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use container_registry_exporter::simulator::{Image, ImageTag, Registry, Repository, Simulator, Tag, World};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::golden::swr_world;
use crate::program::{Files, Program, get, ncr, swr, text, tool, try_get, until};

/// A running Prometheus, or what answers the same questions.
pub struct Database {
    address: SocketAddr,
    _process: Child,
    _data: TempDir,
}

impl Database {
    /// A Prometheus with these rule files, whose rules are evaluated every second, whatever the files say.
    pub async fn prometheus(exporter: SocketAddr, rules: &[&str]) -> Self {
        Self::scraping(exporter, "/-/ready", |data, address| {
            let config = data.join("with_rules.yml");
            let mut text = fs::read_to_string(data.join("prometheus.yml")).unwrap();
            text.push_str("rule_files: [\"*.rules\"]\n");
            // VictoriaMetrics does not know this key.
            fs::write(&config, text.replace("global: {", "global: { evaluation_interval: 1s,")).unwrap();
            for (number, file) in rules.iter().enumerate() {
                let rules = fs::read_to_string(file).unwrap().replace("interval: 2m", "interval: 1s");
                fs::write(data.join(format!("{number}.rules")), rules).unwrap();
            }
            let mut prometheus = tool("prometheus");
            prometheus.arg(format!("--config.file={}", config.display()));
            prometheus.arg(format!("--storage.tsdb.path={}", data.join("data").display()));
            prometheus.arg(format!("--web.listen-address={address}"));
            prometheus
        })
        .await
    }

    async fn victoria_metrics(exporter: SocketAddr) -> Self {
        Self::scraping(exporter, "/health", |data, address| {
            let mut victoria = tool("victoria-metrics");
            victoria.arg(format!("-promscrape.config={}", data.join("prometheus.yml").display()));
            victoria.arg(format!("-storageDataPath={}", data.join("data").display()));
            victoria.arg(format!("-httpListenAddr={address}"));
            // What is newer than that it does not tell.
            victoria.arg("-search.latencyOffset=1s");
            victoria
        })
        .await
    }

    /// Starts one and waits until it answers. It does not tell which port it got, so it is given one that was free just
    /// before, and another one if somebody was faster.
    async fn scraping(
        exporter: SocketAddr,
        ready: &str,
        program: impl Fn(&Path, SocketAddr) -> Command,
    ) -> Self {
        let data = tempfile::tempdir().unwrap();
        let text = format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: registry\n    \
             static_configs: [{{ targets: [\"{exporter}\"] }}]\n"
        );
        fs::write(data.path().join("prometheus.yml"), text).unwrap();
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let mut process =
                program(data.path(), address).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let ready = until("an answer of the database", async || {
                if process.try_wait().unwrap().is_some() {
                    return Some(false);
                }
                let answer = try_get(address, ready, "").await.ok()?;
                (answer.status == 200).then_some(true)
            });
            if ready.await {
                return Self { address, _process: process, _data: data };
            }
        }
        panic!("it ends at once; run it by hand to see why");
    }

    /// The data of an answer of its HTTP API.
    pub async fn api(&self, path: &str) -> Value {
        let answer = get(self.address, &format!("/api/v1/{path}"), "").await;
        assert_eq!(answer.status, 200, "{path}: {}", text(&answer.body));
        serde_json::from_slice::<Value>(&answer.body).unwrap()["data"].clone()
    }

    /// The values that an expression has now.
    pub async fn query(&self, expression: &str) -> Vec<String> {
        let expression: String = url::form_urlencoded::byte_serialize(expression.as_bytes()).collect();
        let data = self.api(&format!("query?query={expression}")).await;
        let rows = data["result"].as_array().unwrap().iter();
        rows.map(|row| row["value"][1].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until an expression has exactly these values.
    async fn becomes(&self, expression: &str, values: &[&str]) {
        until(&format!("{expression} = {values:?}"), async || {
            (self.query(expression).await == values).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn prometheus_sees_what_the_registries_hold_until_it_is_deleted() {
    let mut world = World::empty();
    world.swr.add(Repository::new("group", "busybox").with_tag(Tag::new("v1", 9_007_199_254_740_991)));
    world.swr.add(Repository::new("group", "team/app").with_tag(Tag::new("v1", 1_304_902)));
    let web = Image::new("web").with_tag(ImageTag::new("v1", 7)).with_tag(ImageTag::new("v2", 8));
    world.ncr.add(Registry::new("registry").with_image(web));
    let simulator = Simulator::start(world).await.unwrap();
    let poll = "[poll]\ninterval = \"1s\"\nrequests_per_second = 0\n";
    let files = Files::with_config(&format!("{poll}{}{}", swr(&simulator, ""), ncr(&simulator)));
    let mut exporter = Program::start(&[&files.flag()]).await;
    let prometheus = Database::prometheus(exporter.address, &[]).await;

    prometheus.becomes("up", &["1"]).await;
    prometheus.becomes("container_registry_up", &["1", "1"]).await;
    let size =
        |repository| format!("container_registry_repository_size_bytes{{repository=\"{repository}\"}}");
    prometheus.becomes(&size("team/app"), &["1304902"]).await;
    prometheus.becomes(&size("busybox"), &["9007199254740991"]).await;
    prometheus.becomes("container_registry_repository_images{source=\"ncr\"}", &["2"]).await;
    let age = "time() - container_registry_exporter_poll_last_success_timestamp_seconds < bool 60";
    prometheus.becomes(&format!("min({age})"), &["1"]).await;

    // Only OpenMetrics calls the family of a counter without `_total`.
    let metadata = "targets/metadata?metric=container_registry_exporter_polls";
    until("metadata", async || (prometheus.api(metadata).await[0]["type"] == "counter").then_some(())).await;
    let target = &prometheus.api("targets").await["activeTargets"][0];
    assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()));

    simulator.edit(|world| world.swr.repositories.remove("group/team/app"));
    prometheus.becomes(&size("team/app"), &[]).await;
    assert_eq!(prometheus.query(&size("busybox")).await, ["9007199254740991"]);

    assert_eq!(exporter.stop("TERM").await.code(), Some(0));
    prometheus.becomes("up", &["0"]).await;
}

#[tokio::test]
async fn victoriametrics_sees_what_the_registries_hold() {
    let simulator = Simulator::start(swr_world()).await.unwrap();
    let files = Files::with_config(&swr(&simulator, "tags = { newest = \"all\", info = true }"));
    let exporter = Program::start(&[&files.flag()]).await;
    let victoria = Database::victoria_metrics(exporter.address).await;

    victoria.becomes("up", &["1"]).await;
    victoria.becomes("container_registry_repository_downloads{repository=\"team/app\"}", &["12"]).await;
    // Every sample that was served was taken in, labels of all kinds of characters included.
    let page = exporter.get("/metrics").await;
    let samples = page.lines().filter(|line| !line.starts_with('#')).count().to_string();
    victoria.becomes("scrape_samples_scraped", &[&samples]).await;
    victoria.becomes("count(container_registry_tag_size_bytes{tag=~\"тег\\n.*\"})", &["1"]).await;
}

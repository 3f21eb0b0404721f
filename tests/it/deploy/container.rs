//! The container image. Its last stage is built here from what `deploy/container/build` makes of the program that all
//! tests run; its first stage does nothing else, but builds the program. No base image is needed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use container_registry_exporter::simulator::{Repository, Simulator, Tag, World, keys};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use super::{debian, files, installed, said, succeed};
use crate::program::{BINARY, Files, PATIENCE, get, text};

const FILE: &str = "deploy/container/Containerfile";
const IMAGE: &str = "container-registry-exporter:test";
/// What a container gets that is allowed nothing. podman asks for more open files and processes than there may be here.
const LOCKED_DOWN: [&str; 8] = [
    "--cgroups=disabled",
    "--network=host",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--user=65532",
    "--ulimit=nofile=1024:1024",
    "--ulimit=nproc=1024:1024",
];

/// A store of images with the image in it.
struct Podman(TempDir);

impl Podman {
    async fn with_image() -> Self {
        let is_static = cfg!(target_feature = "crt-static");
        assert!(is_static, "there are no libraries in the image; build the program as tests/run does");
        drop(debian("podman", "podman crun"));
        let podman = Self(tempfile::tempdir().unwrap());
        let built = podman.0.path().join("built");
        let mut making = std::process::Command::new("deploy/container/build");
        succeed(making.arg(built.join("image")).arg(BINARY));
        // The directory takes the place of the stage `build`.
        let stage = format!("--build-context=build={}", built.display());
        podman.succeed(&["build", "--isolation=chroot", &stage, "--file", FILE, "--tag", IMAGE, "."]).await;
        podman
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tests/it/deploy/podman.sh");
        command.arg(self.0.path()).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// What podman prints when it succeeds.
    async fn succeed(&self, arguments: &[&str]) -> String {
        let output = timeout(PATIENCE, self.command(arguments).output()).await.unwrap().unwrap();
        assert!(output.status.success(), "podman {arguments:?}: {}", said(&output));
        text(&output.stdout).to_owned()
    }
}

#[test]
fn hadolint_has_nothing_to_say() {
    assert_eq!(succeed(installed("python/bin/hadolint").arg(FILE)), "");
}

#[tokio::test]
async fn the_image_holds_a_program_and_authorities() {
    let podman = Podman::with_image().await;
    let image =
        &serde_json::from_str::<Value>(&podman.succeed(&["image", "inspect", IMAGE]).await).unwrap()[0];
    assert_eq!(image["Config"]["User"], "65532:65532");
    assert_eq!(
        image["Config"]["ExposedPorts"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["10190/tcp"]
    );

    let root = podman.succeed(&["image", "mount", IMAGE]).await;
    let root = Path::new(root.trim());
    let found: BTreeSet<_> =
        files(root).iter().map(|path| path.strip_prefix(root).unwrap().to_owned()).collect();
    let expected = ["container-registry-exporter", "etc/ssl/certs/ca-certificates.crt"];
    assert_eq!(found, expected.iter().map(Into::into).collect());
}

#[tokio::test]
async fn a_container_that_is_allowed_nothing_serves_and_stops_in_time() {
    let podman = Podman::with_image().await;
    let mut arguments = vec!["run"];
    arguments.extend(LOCKED_DOWN);
    arguments.extend([IMAGE, "demo", "--web.listen-address=127.0.0.1:0"]);
    let mut container =
        podman.command(&arguments).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(container.stderr.take().unwrap()).lines();
    let address = timeout(PATIENCE, async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, address)) = line.split_once("message=listening address=") {
                return address.trim().parse().unwrap();
            }
        }
        panic!("it ended before it listened");
    });
    let address = address.await.unwrap();
    // Somebody has to read the rest of the log.
    let rest = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });

    let healthy = get(address, "/-/healthy", "").await;
    assert_eq!((healthy.status, text(&healthy.body)), (200, "healthy\n"));
    let metrics = get(address, "/metrics", "").await;
    assert!(text(&metrics.body).contains("container_registry_exporter_build_info{"));

    let asked = Instant::now();
    drop(container.stdin.take());
    let ended = timeout(PATIENCE, container.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0));
    assert!(asked.elapsed().as_secs() < 5, "{:?}", asked.elapsed());
    rest.await.unwrap();
}

#[tokio::test]
async fn a_container_finds_hosts_by_name_and_reads_the_configuration_mounted() {
    let mut world = World::empty();
    world.swr.add(Repository::new("group", "busybox").with_tag(Tag::new("v1", 7)));
    let simulator = Simulator::start(world).await.unwrap();
    let endpoint = simulator.swr_url().replace("127.0.0.1", "registry.test");
    let files = Files::with_config(&format!(
        "[sources.swr]\nprovider = \"swr\"\nregion = \"{}\"\nendpoint = \"{endpoint}\"\nallow_http = true\n\
         auth = {{ access_key = \"{}\", secret_key = \"{}\" }}\n",
        keys::REGION,
        keys::SWR_ACCESS_KEY,
        keys::SWR_SECRET_KEY
    ));
    let config = files.path("config.toml");
    let mount = format!("--volume={}:/etc/container-registry-exporter/config.toml:ro", config.display());

    let podman = Podman::with_image().await;
    let mut arguments = vec!["run", "--add-host=registry.test:127.0.0.1", &mount];
    arguments.extend(LOCKED_DOWN);
    arguments.extend([IMAGE, "once"]);
    let mut container = podman.command(&arguments);
    let mut container =
        container.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _not_to_be_stopped = container.stdin.take();
    let page = timeout(PATIENCE, container.wait_with_output()).await.unwrap().unwrap();
    assert!(text(&page.stdout).contains("container_registry_up{source=\"swr\"} 1"), "{}", said(&page));
}

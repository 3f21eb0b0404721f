//! Reloads of the process: both files together, and what it answers meanwhile.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use container_registry_exporter::server::WebConfigFile;
use container_registry_exporter::simulator::{Call, Repository, Simulator, World};
use tokio::process::Command;

use crate::program::{Files, Program, run, swr, text, until};

const PASSWORD: &str = "first";
const OTHER_PASSWORD: &str = "second";

/// An exporter of the source `swr`, whose web configuration knows the user `alice`.
struct Scene {
    simulator: Simulator,
    files: Files,
    program: Program,
}

impl Scene {
    async fn new(more: &str) -> Self {
        let mut world = World::empty();
        world.swr.add(Repository::new("group", "busybox"));
        let simulator = Simulator::start(world).await.unwrap();
        let files = Files::with_config(&swr(&simulator, more));
        replace(&files.path("web.yml"), &users(PASSWORD));
        let flag = format!("--web.config.file={}", files.path("web.yml").display());
        let program = Program::start(&[&files.flag(), &flag]).await;
        Self { simulator, files, program }
    }

    fn configure(&self, config: &str) {
        replace(&self.files.path("config.toml"), config);
    }

    async fn curl(&self, method: &str, path: &str, password: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.program.address);
        let arguments = ["--silent", "--request", method, "--write-out", "\n%{http_code}", "--user"];
        let output = Command::new("curl").args(arguments).arg(format!("alice:{password}")).arg(url).output();
        let output = output.await.unwrap();
        let (body, status) = text(&output.stdout).rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    async fn reload(&self, password: &str) -> (u16, String) {
        self.curl("POST", "/-/reload", password).await
    }

    async fn metrics(&self, password: &str) -> String {
        self.curl("GET", "/metrics", password).await.1
    }
}

/// Replaces a file in one step.
fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, path).unwrap();
}

fn users(password: &str) -> String {
    format!("basic_auth_users:\n  alice: {}\n", bcrypt::hash(password, 4).unwrap())
}

#[tokio::test]
async fn a_web_file_that_a_failed_reload_has_read_is_read_again() {
    let scene = Scene::new("").await;
    replace(&scene.files.path("web.yml"), &users(OTHER_PASSWORD));
    scene.configure("[poll]\ninterval = \"soon\"");
    let (status, problems) = scene.reload(PASSWORD).await;
    assert_eq!(status, 500, "{problems}");
    until("the new password", async || {
        (scene.curl("GET", "/-/healthy", OTHER_PASSWORD).await.0 == 200).then_some(())
    })
    .await;
}

#[test]
fn what_was_read_of_the_web_file_is_not_in_force_until_it_is_put_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.yml");
    replace(&path, &users(PASSWORD));
    let web = WebConfigFile::load(Some(&path)).unwrap();
    let before = web.current();
    replace(&path, &users(OTHER_PASSWORD));
    let read = web.read().unwrap();
    assert!(Arc::ptr_eq(&before, &web.current()));
    web.replace(read);
    assert!(!Arc::ptr_eq(&before, &web.current()));
}

#[tokio::test]
async fn check_and_reload_tell_all_problems_of_all_sources_and_files_together() {
    let scene = Scene::new("").await;
    let path = |name: &str| scene.files.path(name).display().to_string();
    fs::write(path("garbage.pem"), "no certificate").unwrap();
    let source = |name: &str, file: &str| {
        let tls = format!("tls = {{ ca_file = \"{}\" }}", path(file));
        swr(&scene.simulator, &tls).replace("sources.swr", &format!("sources.{name}"))
    };
    let config = source("one", "garbage.pem") + &source("two", "missing.pem") + &swr(&scene.simulator, "");
    scene.configure(&config);
    replace(&scene.files.path("web.yml"), "basic_auth_users: {alice: plain}");
    let web = format!("--web.config.file={}", path("web.yml"));
    let output = run(&["check", &scene.files.flag(), &web]).await;
    assert_eq!(output.status.code(), Some(2));
    let (status, problems) = scene.reload(PASSWORD).await;
    assert_eq!(status, 500);
    for told in [text(&output.stderr), &problems] {
        for part in ["sources.one.tls", "garbage.pem", "sources.two.tls", "missing.pem", "users.alice"] {
            assert!(told.contains(part), "{part} is not in {told}");
        }
        assert_eq!(told.trim_end().lines().count(), 3, "{told}");
    }
}

#[tokio::test]
async fn signals_are_answered_while_a_reload_waits_for_a_file() {
    let mut scene = Scene::new("").await;
    let config = scene.files.path("config.toml");
    fs::remove_file(&config).unwrap();
    assert!(command_ok("mkfifo", &config).await);
    scene.program.signal("HUP").await;
    // Who opens a pipe to write waits for its reader, which then waits for what is written.
    let open = tokio::task::spawn_blocking(move || fs::OpenOptions::new().write(true).open(config).unwrap());
    let _pipe = open.await.unwrap();
    let another = scene.reload(PASSWORD);
    let page = async { assert!(scene.metrics(PASSWORD).await.contains("_up{")) };
    let ((), another) =
        tokio::join!(page, tokio::time::timeout(std::time::Duration::from_millis(200), another));
    assert!(another.is_err(), "one reload at a time");
    assert_eq!(scene.program.stop("TERM").await.code(), Some(0));
}

async fn command_ok(program: &str, path: &Path) -> bool {
    Command::new(program).arg(path).status().await.unwrap().success()
}

#[tokio::test]
async fn a_failed_reload_changes_no_gauge() {
    let scene = Scene::new("").await;
    let series = "container_registry_exporter_series_limit{source=\"swr\"} 200000";
    let read = "container_registry_exporter_poll_last_success_timestamp_seconds{collector=\"tags\"";
    for line in [series, read] {
        until(line, async || scene.metrics(PASSWORD).await.contains(line).then_some(())).await;
    }
    let gauges = async || {
        let page = scene.metrics(PASSWORD).await;
        let mut gauge = false;
        let mut lines = Vec::new();
        for line in page.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                gauge = kind.ends_with(" gauge") && !kind.starts_with("process_");
            } else if gauge && !line.starts_with('#') && !line.contains("_last_reload_successful") {
                lines.push(line.to_owned());
            }
        }
        lines
    };
    let before = gauges().await;
    let bad = "tls = { ca_file = \"missing.pem\" }\npoll = { interval = \"7m\" }";
    let other = swr(&scene.simulator, bad).replace("sources.swr", "sources.torn");
    scene.configure(&(swr(&scene.simulator, "poll = { interval = \"9m\" }") + &other));
    assert_eq!(scene.reload(PASSWORD).await.0, 500);
    let failed = "container_registry_exporter_config_last_reload_successful 0";
    // The exporter's own figures are up to a second old.
    until(failed, async || scene.metrics(PASSWORD).await.contains(failed).then_some(())).await;
    assert_eq!(gauges().await, before);
    assert_eq!(scene.simulator.requests(Call::ListRepositories), 1);
}

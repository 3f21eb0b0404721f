//! The files of a store, with a source that polls a simulated SWR.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use container_registry_exporter::app::sources::RunningSources;
use container_registry_exporter::config::Config;
use container_registry_exporter::exposition;
use container_registry_exporter::simulator::{Call, Fault, Repository, Simulator, Tag, World, keys};
use container_registry_exporter::telemetry::self_metrics::SelfMetrics;
use tempfile::TempDir;
use tokio::time::{Duration, sleep};

/// A configuration with the source `swr`, which keeps its snapshot in `state` and reads as `more` says.
pub fn config_text(simulator: &Simulator, state: &Path, more: &str) -> String {
    format!(
        r#"
        [poll]
        interval = "1h"
        requests_per_second = 0
        [state]
        path = "{}"
        [sources.swr]
        provider = "swr"
        region = "cn-north-4"
        endpoint = "{}"
        shared = []
        auth = {{ access_key = "{}", secret_key = "{}" }}
        {more}
        "#,
        state.display(),
        simulator.swr_url(),
        keys::SWR_ACCESS_KEY,
        keys::SWR_SECRET_KEY
    )
}

struct Fixture {
    simulator: Simulator,
    directory: TempDir,
    metrics: SelfMetrics,
}

impl Fixture {
    async fn new() -> Self {
        let mut world = World::empty();
        world.swr.add(Repository::new("group", "app").with_tag(Tag::new("v1", 5)));
        let simulator = Simulator::start(world).await.unwrap();
        Self { simulator, directory: TempDir::new().unwrap(), metrics: SelfMetrics::new() }
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("made/if/need/be")
    }

    fn file(&self) -> PathBuf {
        self.state().join("swr.snapshot")
    }

    /// A process of its own, as far as the state is concerned.
    async fn start(&mut self, more: &str) -> RunningSources {
        self.metrics = SelfMetrics::new();
        let mut sources = RunningSources::new(self.metrics.clone());
        let text = config_text(&self.simulator, &self.state(), more);
        apply(&mut sources, &text).await;
        self.until("snapshot_restored", |value| value.is_some()).await;
        sources
    }

    /// Runs until the first snapshot is written.
    async fn run_once(&mut self) {
        let sources = self.start("").await;
        self.until("snapshot_timestamp_seconds", |value| value.is_some()).await;
        drop(sources);
    }

    fn metric(&self, name: &str) -> Option<f64> {
        let name = format!("container_registry_exporter_{name}");
        let family = self.metrics.gather().into_iter().find(|family| family.name() == name)?;
        let metric = family.get_metric().first()?;
        Some(metric.get_gauge().get_value() + metric.get_counter().get_value())
    }

    async fn until(&self, name: &str, holds: impl Fn(Option<f64>) -> bool) {
        for _ in 0..2000 {
            if holds(self.metric(name)) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} is {:?}", self.metric(name));
    }

    /// Lets the cloud give no answer, so that all that a source shows is from its snapshot.
    fn silence(&self) {
        self.simulator.fault(Call::ListRepositories, Fault::Hang);
    }
}

/// Makes the sources of a configuration run.
async fn apply(sources: &mut RunningSources, text: &str) {
    let config = Config::parse(text, Path::new(""), &BTreeMap::new()).unwrap();
    let prepared = sources.preparation().prepare(config).unwrap();
    sources.commit(prepared).await;
}

/// The repositories that the source shows.
fn shown(sources: &RunningSources) -> Option<usize> {
    let shown: exposition::Sources = sources.shown.borrow().clone();
    let state = shown.values().next().unwrap().states.borrow().clone();
    state.inventory.repositories.as_ref().map(|repositories| repositories.entries.len())
}

#[tokio::test]
async fn the_file_is_for_its_owner_and_nothing_else_is_left() {
    let mut fixture = Fixture::new().await;
    fixture.run_once().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&fixture.file()), mode(&fixture.state())), (0o600, 0o700));
    assert_eq!(fs::read_dir(fixture.state()).unwrap().count(), 1);
}

#[tokio::test]
async fn no_secret_is_in_the_file() {
    let mut fixture = Fixture::new().await;
    fixture.run_once().await;
    let bytes = fs::read(fixture.file()).unwrap();
    let mut content = Vec::new();
    let mut inflate = flate2::bufread::DeflateDecoder::new(&bytes[52..bytes.len() - 4]);
    std::io::Read::read_to_end(&mut inflate, &mut content).unwrap();
    let contains = |secret: &str| content.windows(secret.len()).any(|window| window == secret.as_bytes());
    assert!(contains("group"));
    assert!(!contains(keys::SWR_ACCESS_KEY) && !contains(keys::SWR_SECRET_KEY));
}

#[tokio::test]
async fn a_restart_shows_what_the_file_holds_while_the_cloud_is_silent() {
    let mut fixture = Fixture::new().await;
    fixture.run_once().await;
    let written = fixture.metric("snapshot_timestamp_seconds");
    fixture.silence();
    let sources = fixture.start("poll = { timeout = \"30m\" }").await;
    assert_eq!(shown(&sources), Some(1));
    assert_eq!(fixture.metric("snapshot_restored"), Some(1.0));
    assert_eq!(fixture.metric("snapshot_timestamp_seconds"), written);
}

#[tokio::test]
async fn a_source_that_reads_other_things_starts_with_nothing() {
    let mut fixture = Fixture::new().await;
    fixture.run_once().await;
    let bytes = fs::read(fixture.file()).unwrap();
    fixture.silence();
    let sources = fixture.start("organizations = [\"group\"]").await;
    assert_eq!((shown(&sources), fixture.metric("snapshot_restored")), (None, Some(0.0)));
    assert_eq!(fs::read(fixture.file()).unwrap(), bytes, "it may be wanted again");
}

#[tokio::test]
async fn other_settings_for_the_tags_shown_go_on_with_what_the_file_holds() {
    let mut fixture = Fixture::new().await;
    fixture.run_once().await;
    let tag_calls = fixture.simulator.requests(Call::ListTags);
    fixture.silence();
    for (more, tags) in [
        ("tags = { newest = 9, info = true }", Some(1)),
        ("tags = { exclude = [\"v1\"] }", Some(0)),
        ("tags = { enabled = false }", None),
    ] {
        let sources = fixture.start(more).await;
        let state = sources.shown.borrow().values().next().unwrap().states.borrow().clone();
        let entry = state.inventory.repositories.as_ref().unwrap().entries[0].clone();
        assert_eq!(entry.tags.map(|tags| tags.newest.len()), tags, "{more}");
    }
    assert_eq!(fixture.simulator.requests(Call::ListTags), tag_calls);
}

#[tokio::test]
async fn a_damaged_file_costs_nothing_but_what_it_held() {
    let mut fixture = Fixture::new().await;
    fixture.run_once().await;
    let whole = fs::read(fixture.file()).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", b"something else"] {
        fs::write(fixture.file(), damaged).unwrap();
        let sources = fixture.start("").await;
        assert_eq!(fixture.metric("snapshot_restored"), Some(0.0));
        fixture.until("snapshot_timestamp_seconds", |value| value.is_some()).await;
        assert_eq!(shown(&sources), Some(1));
    }
}

#[tokio::test]
async fn a_named_pipe_or_a_directory_in_place_of_the_file_holds_nothing_up() {
    let mut fixture = Fixture::new().await;
    fs::create_dir_all(fixture.file()).unwrap();
    let sources = fixture.start("").await;
    assert_eq!(fixture.metric("snapshot_restored"), Some(0.0));
    fixture.until("snapshot_write_failures_total", |value| value == Some(1.0)).await;
    drop(sources);
    fs::remove_dir(fixture.file()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(fixture.file()).status().unwrap().success());
    let sources = fixture.start("").await;
    assert_eq!(fixture.metric("snapshot_restored"), Some(0.0));
    fixture.until("snapshot_timestamp_seconds", |value| value.is_some()).await;
    assert!(fs::metadata(fixture.file()).unwrap().is_file());
    drop(sources);
}

#[tokio::test]
async fn a_directory_that_cannot_be_had_is_counted_and_stops_nothing() {
    let mut fixture = Fixture::new().await;
    fs::write(fixture.directory.path().join("made"), "a file where the directory should be").unwrap();
    let sources = fixture.start("").await;
    fixture.until("snapshot_write_failures_total", |value| value == Some(1.0)).await;
    assert_eq!((shown(&sources), fixture.metric("snapshot_timestamp_seconds")), (Some(1), None));
}

#[tokio::test]
async fn what_a_killed_process_left_half_written_is_cleared_away() {
    let mut fixture = Fixture::new().await;
    fixture.run_once().await;
    fs::write(fixture.state().join(".swr-AbCdEf.snapshot.tmp"), "half").unwrap();
    fs::write(fixture.state().join("notes.txt"), "not ours").unwrap();
    drop(fixture.start("").await);
    let mut names: Vec<_> =
        fs::read_dir(fixture.state()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["notes.txt", "swr.snapshot"]);
}

#[tokio::test]
async fn a_reload_that_changes_only_the_schedule_keeps_the_data() {
    let mut fixture = Fixture::new().await;
    let mut sources = fixture.start("").await;
    fixture.until("snapshot_timestamp_seconds", |value| value.is_some()).await;
    fixture.silence();
    let text = config_text(&fixture.simulator, &fixture.state(), "poll = { interval = \"30m\" }");
    apply(&mut sources, &text).await;
    assert_eq!(shown(&sources), Some(1));
}

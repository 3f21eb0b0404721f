//! A reload, asked for over HTTP and by signal, of the sources that run.

mod kept;
mod process;
mod renewed;

use std::collections::BTreeMap;
use std::path::Path;

use container_registry_exporter::app::sources::RunningSources;
use container_registry_exporter::config::{Config, ConfigError};
use container_registry_exporter::simulator::{Call, Registry, Repository, Simulator, World, keys};
use container_registry_exporter::telemetry::self_metrics::SelfMetrics;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("."), &BTreeMap::new())
}

async fn simulator() -> Simulator {
    let mut world = World::empty();
    world.swr.add(Repository::new("group", "busybox"));
    world.ncr.add(Registry::new("registry"));
    Simulator::start(world).await.unwrap()
}

fn swr(simulator: &Simulator, name: &str, more: &str) -> String {
    format!(
        r#"
        [sources.{name}]
        provider = "swr"
        region = "cn-north-4"
        endpoint = "{}"
        shared = []
        {more}
        auth = {{ access_key = "{}", secret_key = "{}" }}
        "#,
        simulator.swr_url(),
        keys::SWR_ACCESS_KEY,
        keys::SWR_SECRET_KEY
    )
}

fn ncr(simulator: &Simulator, name: &str) -> String {
    format!(
        r#"
        [sources.{name}]
        provider = "ncr"
        region = "KR"
        endpoint = "{}"
        auth = {{ access_key = "{}", secret_key = "{}" }}
        "#,
        simulator.ncr_url(),
        keys::NCR_ACCESS_KEY,
        keys::NCR_SECRET_KEY
    )
}

/// Puts a configuration in force as a reload does, or says what is wrong with it.
async fn reload(sources: &mut RunningSources, text: &str) -> Result<(), String> {
    let prepared = parse(text).and_then(|config| sources.preparation().prepare(config));
    let outcome = match prepared {
        Ok(prepared) => {
            sources.commit(prepared).await;
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    };
    sources.reloaded(&outcome);
    outcome
}

/// Waits until a source's first list is there.
async fn listed(sources: &RunningSources, name: &str) {
    let shown = sources.shown.borrow().clone();
    let source = shown.iter().find(|(source, _)| source.as_str() == name).unwrap().1;
    let mut states = source.states.clone();
    states.wait_for(|state| state.inventory.repositories.is_some()).await.unwrap();
}

fn names(sources: &RunningSources) -> Vec<String> {
    sources.shown.borrow().keys().map(ToString::to_string).collect()
}

/// The label values of a family's series for one source.
fn series(metrics: &SelfMetrics, name: &str, source: &str) -> usize {
    let families = metrics.gather();
    let family = families.iter().find(|f| f.name() == format!("container_registry_exporter_{name}"));
    let series = family.map_or(&[][..], |family| family.get_metric());
    series
        .iter()
        .filter(|m| m.get_label().iter().any(|l| l.name() == "source" && l.value() == source))
        .count()
}

#[tokio::test]
async fn a_source_that_stays_keeps_its_data_and_schedule_while_others_come_and_go() {
    let simulator = simulator().await;
    let metrics = SelfMetrics::new();
    let mut sources = RunningSources::new(metrics.clone());
    reload(&mut sources, &(swr(&simulator, "stays", "") + &ncr(&simulator, "goes"))).await.unwrap();
    listed(&sources, "stays").await;
    let before = sources.shown.borrow().values().last().unwrap().states.clone();
    let lists = simulator.requests(Call::ListRepositories);

    let text = swr(&simulator, "stays", "") + &ncr(&simulator, "comes");
    reload(&mut sources, &text).await.unwrap();
    assert_eq!(names(&sources), ["comes", "stays"]);
    listed(&sources, "comes").await;
    let after = sources.shown.borrow().values().last().unwrap().states.clone();
    assert!(before.same_channel(&after));
    assert_eq!(simulator.requests(Call::ListRepositories), lists, "the source that stays was polled again");
    assert_eq!(series(&metrics, "polls_total", "goes"), 0);
    assert_eq!(series(&metrics, "polls_total", "stays"), 2);
}

#[tokio::test]
async fn a_changed_source_starts_anew() {
    let simulator = simulator().await;
    let mut sources = RunningSources::new(SelfMetrics::new());
    reload(&mut sources, &swr(&simulator, "changes", "")).await.unwrap();
    listed(&sources, "changes").await;
    simulator.edit(|world| world.swr.add(Repository::new("group", "hidden")));
    let text = swr(&simulator, "changes", r#"repositories = { exclude = [".*/hidden"] }"#);
    reload(&mut sources, &text).await.unwrap();
    listed(&sources, "changes").await;
    assert_eq!(simulator.requests(Call::ListRepositories), 2);
}

#[tokio::test]
async fn a_bad_configuration_changes_nothing_and_is_told_with_every_problem() {
    let simulator = simulator().await;
    let metrics = SelfMetrics::new();
    let mut sources = RunningSources::new(metrics.clone());
    reload(&mut sources, &swr(&simulator, "stays", "")).await.unwrap();
    let text = swr(&simulator, "stays", "unknown = 1\nwrong = 2") + "[sources.Capital]";
    let problems = reload(&mut sources, &text).await.unwrap_err();
    for key in ["sources.stays.unknown", "sources.stays.wrong", "sources.Capital"] {
        assert!(problems.contains(key), "{problems}");
    }
    assert_eq!(names(&sources), ["stays"]);
    listed(&sources, "stays").await;
    let successful =
        metrics.gather().into_iter().find(|f| f.name().ends_with("config_last_reload_successful"));
    assert_eq!(successful.unwrap().get_metric()[0].get_gauge().get_value(), 0.0);
}

#[tokio::test]
async fn a_source_that_cannot_be_set_up_changes_nothing() {
    let simulator = simulator().await;
    let metrics = SelfMetrics::new();
    let mut sources = RunningSources::new(metrics.clone());
    reload(&mut sources, &swr(&simulator, "stays", "")).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, "no certificate").unwrap();
    let tls = format!("tls = {{ ca_file = \"{}\" }}", file.display());
    let text = ncr(&simulator, "fine") + &swr(&simulator, "torn", &tls);
    let problem = reload(&mut sources, &text).await.unwrap_err();
    assert!(problem.contains("torn") && problem.contains("ca.pem"), "{problem}");
    assert_eq!(names(&sources), ["stays"]);
    assert_eq!((series(&metrics, "polls_total", "torn"), series(&metrics, "polls_total", "fine")), (0, 0));
}

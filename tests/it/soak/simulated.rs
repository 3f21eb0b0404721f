//! Days of polls in simulated time: the real scheduler and page over an account in memory, every state that is
//! published compared with what the rules say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use container_registry_exporter::config::{Config, SourceConfig};
use container_registry_exporter::inventory::SourceInfo;
use container_registry_exporter::scheduler::{Source, SourceState, collectors};
use container_registry_exporter::telemetry::self_metrics::SelfMetrics;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::account::Account;
use super::counters;
use super::memory::{Cloud, InMemory, STEP};
use super::random::Random;
use super::rules::{Rules, Settings};
use super::shown::Shown;
use super::weather::{Season, Weather};

const INTERVAL: Duration = Duration::from_mins(5);

/// What to simulate.
pub struct Simulation {
    /// NCR rather than SWR.
    pub ncr: bool,
    pub days: u32,
    /// Hours.
    pub full_sweep: u32,
    /// About so many repositories.
    pub size: u32,
    pub seed: u64,
}

/// What came out of it.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub polls: u64,
    pub failed_lists: u64,
    /// Pages compared, and the lines on them.
    pub pages: u64,
    pub lines: u64,
    pub least_repositories: usize,
    pub most_repositories: usize,
    pub tag_listings: u64,
    pub tag_listings_skipped: u64,
    pub most_pending: usize,
}

/// Runs a simulation in a runtime whose time stands still unless everybody waits; the error is the first
/// disagreement.
pub async fn run(simulation: &Simulation) -> Result<Figures, String> {
    let config = config(simulation);
    let settings = settings(simulation, &config);
    let intervals = |time: Duration| time.as_secs() / INTERVAL.as_secs();
    let info = SourceInfo {
        name: config.name.clone(),
        provider: "swr",
        cloud_region: "cn-north-4".to_owned(),
        api_host: "registry.example".to_owned(),
    };
    let metrics = SelfMetrics::new();
    let source_metrics = metrics.source(&config.name, &collectors(&config), config.poll.interval);
    let time = Duration::from_hours(24) * simulation.days;
    let mut random = Random::new(simulation.seed);
    let start = Instant::now();
    let cloud = Arc::new(Mutex::new(Cloud {
        account: Account::new(simulation.ncr, simulation.size, &mut random),
        random,
        season: Season::new(intervals(time), intervals(settings.full_sweep), intervals(settings.stale_after)),
        weather: Weather::default(),
        rules: Rules::new(settings),
        ends: BTreeSet::new(),
        deadline: start,
        disagreement: None,
    }));
    let (source, states) = Source::new(config, info, Arc::new(InMemory(Arc::clone(&cloud))), source_metrics);
    let running = tokio::spawn(source.run(start));
    let mut checker = Checker {
        cloud,
        metrics,
        // About half of what there is.
        limit: u64::from(simulation.size) * 12,
        shown: Shown::default(),
        events: 0,
        good_until: None,
        polling: false,
        figures: Figures { least_repositories: usize::MAX, ..Figures::default() },
    };
    let agreement = checker.check_all(states, start + time - STEP).await;
    running.abort();
    agreement.map_err(|disagreement| format!("after {:?}: {disagreement}", start.elapsed()))?;
    Ok(checker.figures)
}

fn config(simulation: &Simulation) -> SourceConfig {
    let (provider, region, auth) =
        if simulation.ncr { ("ncr", "KR", "") } else { ("swr", "cn-north-4", "method = \"ak_sk\", ") };
    let text = format!(
        r#"
        [sources.test]
        provider = "{provider}"
        region = "{region}"
        poll = {{ interval = "5m", stale_after = "30m", max_concurrent_requests = 4 }}
        tags = {{ newest = 3, exclude = ["tmp-.*"], info = true, full_sweep = "{}h" }}
        auth = {{ {auth}access_key = "key", secret_key = "secret" }}
        "#,
        simulation.full_sweep
    );
    let config = Config::parse(&text, Path::new("."), &BTreeMap::new()).expect("the configuration is good");
    config.sources.into_iter().next().expect("there is one source")
}

fn settings(simulation: &Simulation, config: &SourceConfig) -> Settings {
    Settings {
        source: "test",
        info: ["swr", "cn-north-4", "registry.example"].map(str::to_owned),
        ncr: simulation.ncr,
        interval: INTERVAL,
        stale_after: config.poll.stale_after,
        full_sweep: config.tags.full_sweep,
        newest: 3,
        excluded: "tmp-",
    }
}

/// Compares what the source publishes with the rules.
struct Checker {
    cloud: Arc<Mutex<Cloud>>,
    metrics: SelfMetrics,
    limit: u64,
    shown: Shown,
    /// The events that what is shown is compared with.
    events: u64,
    /// When something that is shown becomes too old.
    good_until: Option<Instant>,
    polling: bool,
    figures: Figures,
}

impl Checker {
    async fn check_all(
        &mut self,
        mut states: watch::Receiver<Arc<SourceState>>,
        end: Instant,
    ) -> Result<(), String> {
        while let Ok(changed) = timeout_at(end, states.changed()).await {
            changed.map_err(|_| "the source ended")?;
            let state = Arc::clone(&states.borrow_and_update());
            self.check(&state)?;
        }
        self.compare_counters()
    }

    fn check(&mut self, state: &SourceState) -> Result<(), String> {
        let cloud = Arc::clone(&self.cloud);
        let mut cloud = cloud.lock().expect("nobody panics with it");
        let now = Instant::now();
        if let Some(disagreement) = cloud.disagreement.take() {
            return Err(disagreement);
        }
        if let Some(late) = self.good_until.and_then(|end| now.checked_duration_since(end + STEP))
            && late > Duration::ZERO
        {
            return Err(format!("something was shown for {late:?} after it became too old"));
        }
        let new = self.shown.render(&state.inventory);
        // What must be seen does not change but by an event or by age.
        let aged = self.good_until.is_some_and(|end| now >= end);
        if new || aged || self.events != cloud.rules.events {
            self.shown.compare(&cloud.rules.lines(now))?;
            self.events = cloud.rules.events;
            self.figures.pages += 1;
            self.figures.lines += self.shown.lines();
        }
        self.good_until = cloud.rules.good_until(now);
        if new && self.figures.pages.is_multiple_of(7) {
            self.shown.check_limit(self.limit)?;
        }
        if std::mem::replace(&mut self.polling, state.status.polling) && !self.polling {
            let in_time = now < cloud.deadline;
            cloud.rules.end(now, in_time)?;
            if state.status.tags_pending != cloud.rules.pending() {
                let (shown, expected) = (state.status.tags_pending, cloud.rules.pending());
                return Err(format!("{shown} tag listings are pending instead of {expected}"));
            }
            self.note(&cloud.rules);
            drop(cloud);
            if self.figures.polls.is_multiple_of(100) {
                self.compare_counters()?;
            }
        }
        Ok(())
    }

    fn note(&mut self, rules: &Rules) {
        let (figures, repositories) = (&mut self.figures, rules.repositories());
        figures.polls += 1;
        figures.failed_lists =
            rules.counts.failures.iter().filter(|(key, _)| key.0 == "repositories").map(|(_, n)| n).sum();
        figures.least_repositories = figures.least_repositories.min(repositories);
        figures.most_repositories = figures.most_repositories.max(repositories);
        figures.most_pending = figures.most_pending.max(rules.pending());
        figures.tag_listings = rules.counts.tag_listings;
        figures.tag_listings_skipped = rules.counts.tag_listings_skipped;
    }

    fn compare_counters(&self) -> Result<(), String> {
        let cloud = self.cloud.lock().expect("nobody panics with it");
        counters::compare(&self.metrics, &cloud.rules.counts, cloud.rules.pending())
    }
}

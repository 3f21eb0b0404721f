//! The sources that run: started as configured, and changed by a reload without touching those that stay as they are.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::select_all;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use super::AppError;
use crate::client::Guards;
use crate::config::{Cloud, Config, ConfigError, SourceConfig};
use crate::exposition::{self, Sources};
use crate::inventory::{SourceInfo, SourceName, Timestamp};
use crate::provider::{Provider, ncr::Ncr, operation::operations, swr::Swr};
use crate::scheduler::{Source, SourceState, collectors};
use crate::state::{Keeper, Store};
use crate::telemetry::logging::chain;
use crate::telemetry::self_metrics::{SelfMetrics, SourceMetrics};

/// The first polls of many sources are spread by this much, so that they do not all begin at the same moment.
const FIRST_POLL_SPREAD: Duration = Duration::from_millis(100);
/// The last source's first poll is not later than this.
const LATEST_FIRST_POLL: Duration = Duration::from_secs(5);

/// The sources that run.
pub struct RunningSources {
    metrics: SelfMetrics,
    guards: Guards,
    store: Store,
    running: BTreeMap<SourceName, Running>,
    /// What the page and the server see of them.
    pub shown: watch::Sender<Sources>,
}

struct Running {
    config: SourceConfig,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RunningSources {
    /// None yet.
    pub fn new(metrics: SelfMetrics) -> Self {
        let (shown, _) = watch::channel(Sources::new());
        Self { metrics, guards: Guards::default(), store: Store::default(), running: BTreeMap::new(), shown }
    }

    /// Makes the sources of `config` run. One that runs with the same settings goes on as if nothing had happened; a
    /// changed one starts anew; one that is no longer configured stops and takes its metrics along.
    ///
    /// Errors: a source cannot be set up; nothing has changed then.
    pub fn apply(&mut self, config: Config) -> Result<(), AppError> {
        let names: Vec<_> = config.sources.iter().map(|config| config.name.clone()).collect();
        let changed = config
            .sources
            .into_iter()
            .filter(|config| self.running.get(&config.name).is_none_or(|running| running.config != *config));
        let started = changed.map(|config| Ok((provider(&config, &self.guards, &self.metrics)?, config)));
        let started: Vec<_> = started.collect::<Result<_, AppError>>().inspect_err(|_| {
            for name in names.iter().filter(|name| !self.running.contains_key(name)) {
                self.metrics.forget(name);
            }
        })?;
        let mut shown = self.shown.borrow().clone();
        let stays = |name: &SourceName| {
            names.contains(name) && !started.iter().any(|(_, config)| config.name == *name)
        };
        for name in self.running.keys().filter(|name| !stays(name)) {
            shown.remove(name);
            tracing::info!(source = name.as_str(), "source stops");
        }
        self.running.retain(|name, _| stays(name));
        for name in self.shown.borrow().keys().filter(|name| !stays(name)) {
            self.metrics.forget(name);
        }
        self.store.open(config.state);
        for (number, (provider, config)) in started.into_iter().enumerate() {
            let (name, series_limit) = (config.name.clone(), config.series_limit);
            tracing::info!(source = name.as_str(), credential = config.cloud.credential(), "source starts");
            let metrics = source_metrics(&config, &self.metrics);
            let (mut source, states) = Source::new(config.clone(), info(&config), provider, metrics.clone());
            let keeper = self.store.keeper(&config, &mut source, metrics.clone());
            shown.insert(name.clone(), exposition::Source { states, series_limit, metrics });
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let delay = FIRST_POLL_SPREAD.saturating_mul(number).min(LATEST_FIRST_POLL);
            let task = tokio::spawn(run(source, Instant::now() + delay, keeper));
            self.running.insert(name, Running { config, task });
        }
        self.shown.send_replace(shown);
        Ok(())
    }

    /// Loads the configuration anew and makes it run; what is wrong with it is logged, and the answer.
    pub fn reload(&mut self, load: impl Fn() -> Result<Config, ConfigError>) -> Result<(), String> {
        let outcome = load().map_err(|error| error.to_string());
        let outcome = outcome.and_then(|config| self.apply(config).map_err(|error| chain(&error)));
        self.metrics.config_loaded(outcome.is_ok(), Timestamp::from(SystemTime::now()));
        match &outcome {
            Ok(()) => {
                self.guards.reloaded();
                tracing::info!("configuration reloaded");
            }
            Err(problems) => {
                tracing::error!(error = problems, "configuration not reloaded, the old one stays in force");
            }
        }
        outcome
    }

    /// Waits until a source ends, which none should, and says with what error.
    pub async fn ended(&mut self) -> Option<JoinError> {
        if self.running.is_empty() {
            pending::<()>().await;
        }
        let (ended, _, _) = select_all(self.running.values_mut().map(|running| &mut running.task)).await;
        ended.err()
    }
}

/// A source as configured that does not run by itself, and what it publishes.
pub fn source(
    config: SourceConfig,
    guards: &Guards,
    metrics: &SelfMetrics,
) -> Result<(Source, watch::Receiver<Arc<SourceState>>), AppError> {
    let provider = provider(&config, guards, metrics)?;
    let (info, metrics) = (info(&config), source_metrics(&config, metrics));
    Ok(Source::new(config, info, provider, metrics))
}

/// Polls and keeps what the polls learn, neither of which ends.
async fn run(source: Source, first: Instant, keeper: Keeper) {
    tokio::select! {
        () = source.run(first) => {}
        () = keeper.run() => {}
    }
}

/// The way to a source's cloud.
pub fn provider(
    config: &SourceConfig,
    guards: &Guards,
    metrics: &SelfMetrics,
) -> Result<Arc<dyn Provider>, AppError> {
    let failed = |source| AppError::Source { name: config.name.clone(), source };
    let (guards, metrics) = (guards.clone(), source_metrics(config, metrics));
    Ok(match &config.cloud {
        Cloud::Swr(swr) => Arc::new(Swr::new(config, swr, guards, metrics).map_err(failed)?),
        Cloud::Ncr(ncr) => Arc::new(Ncr::new(config, ncr, guards, metrics).map_err(failed)?),
    })
}

fn source_metrics(config: &SourceConfig, metrics: &SelfMetrics) -> SourceMetrics {
    let metrics = metrics.source(&config.name, &collectors(config), config.poll.interval);
    metrics.operations(&operations(config));
    metrics
}

/// What does not change about a source while it runs.
pub fn info(config: &SourceConfig) -> SourceInfo {
    let (provider, region, endpoint) = match &config.cloud {
        Cloud::Swr(swr) => ("swr", &swr.region, &swr.endpoint),
        Cloud::Ncr(ncr) => ("ncr", &ncr.region, &ncr.endpoint),
    };
    SourceInfo {
        name: config.name.clone(),
        provider,
        cloud_region: region.clone(),
        api_host: endpoint[url::Position::BeforeHost..url::Position::AfterPort].to_owned(),
    }
}

//! The sources that run: started as configured, and changed by a reload, those that read the same as before keeping
//! what they know.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::select_all;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::client::Guards;
use crate::config::tls::stamp;
use crate::config::{Cloud, Config, ConfigError, Problem, SourceConfig};
use crate::exposition::{self, Sources};
use crate::inventory::{SourceInfo, SourceName, Timestamp};
use crate::provider::{Provider, ncr::Ncr, operation::operations, swr::Swr};
use crate::scheduler::{Settings, Source, SourceState, collectors};
use crate::state::identity::identity;
use crate::state::{Keeper, Store};
use crate::telemetry::logging::chain;
use crate::telemetry::self_metrics::{SelfMetrics, SourceMetrics};

/// The first polls of many sources are spread by this much, so that they do not all begin at the same moment.
const FIRST_POLL_SPREAD: Duration = Duration::from_millis(100);
/// The last source's first poll is not later than this.
const LATEST_FIRST_POLL: Duration = Duration::from_secs(5);

/// Between two looks at the files that sources name. A changed file is read at the second look that finds it the same,
/// so that nothing is read while it is being written.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The longest wait for a source that was stopped, which ends as soon as it waits for something.
const LONGEST_END: Duration = Duration::from_secs(1);

/// The sources that run.
pub struct RunningSources {
    metrics: SelfMetrics,
    guards: Guards,
    store: Store,
    running: BTreeMap<SourceName, Running>,
    /// What the page and the server see of them.
    pub shown: watch::Sender<Sources>,
    /// The files that their configurations name.
    files: watch::Sender<BTreeSet<PathBuf>>,
}

struct Running {
    config: SourceConfig,
    settings: watch::Sender<Option<Settings>>,
    task: JoinHandle<()>,
    /// What is wrong with its files now, while what they held before is in force.
    told: Option<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is needed to make ready what a configuration asks for, beside the sources that run.
pub struct Preparation {
    metrics: SelfMetrics,
    guards: Guards,
    /// With what was wrong with their files at the last look.
    running: BTreeMap<SourceName, (SourceConfig, Option<String>)>,
    state: Option<PathBuf>,
}

/// The sources of a configuration, ready to run. Nothing of it is in force yet.
pub struct Prepared {
    sources: Vec<(SourceConfig, Change)>,
    state: Option<PathBuf>,
    told: BTreeMap<SourceName, String>,
}

/// What becomes of a source.
enum Change {
    /// It goes on as if nothing had happened.
    None,
    /// It goes on with all that it knows, and this way to its cloud.
    Settings(Arc<dyn Provider>),
    /// It starts with nothing, but for its snapshot.
    New(Arc<dyn Provider>),
}

impl Preparation {
    /// Makes ready what `config` asks for. Reads no file, but may take a while.
    ///
    /// Errors: every source that cannot be set up.
    pub fn prepare(self, config: Config) -> Result<Prepared, ConfigError> {
        let prepared = config.sources.into_iter().map(|config| {
            let known = self.running.get(&config.name).map(|(known, _)| known);
            if known == Some(&config) {
                return Ok((config, Change::None));
            }
            let provider = provider(&config, &self.guards, self.metrics.handle(&config.name))?;
            let same = known.is_some_and(|known| identity(known) == identity(&config));
            let change = if same { Change::Settings(provider) } else { Change::New(provider) };
            Ok((config, change))
        });
        let sources = all(prepared)?;
        Ok(Prepared { sources, state: config.state, told: BTreeMap::new() })
    }

    /// Reads the files anew that the sources which run name. Those of a source are used together or not at all; what is
    /// wrong with them is warned of once.
    ///
    /// Errors: a source cannot be set up.
    pub fn renew(mut self) -> Result<Prepared, ConfigError> {
        let (mut sources, mut told) = (Vec::new(), BTreeMap::new());
        for (name, (config, before)) in &self.running {
            let mut config = config.clone();
            match config.connection.tls.reread() {
                Ok(tls) => config.connection.tls = tls,
                Err(error) => {
                    if before.as_ref() != Some(&error) {
                        tracing::warn!(
                            source = name.as_str(),
                            error,
                            "changed files cannot be used, what they held before stays in force"
                        );
                    }
                    told.insert(name.clone(), error);
                }
            }
            sources.push(config);
        }
        let state = self.state.take();
        Ok(Prepared { told, ..self.prepare(Config { sources, state })? })
    }
}

/// All of these, or everything that is wrong with them.
pub fn all<T>(results: impl Iterator<Item = Result<T, Problem>>) -> Result<Vec<T>, ConfigError> {
    let (mut good, mut problems) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => good.push(value),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(good) } else { Err(ConfigError { problems }) }
}

impl RunningSources {
    /// None yet.
    pub fn new(metrics: SelfMetrics) -> Self {
        let (shown, _) = watch::channel(Sources::new());
        let (files, _) = watch::channel(BTreeSet::new());
        let (guards, store) = (Guards::default(), Store::default());
        Self { metrics, guards, store, running: BTreeMap::new(), shown, files }
    }

    /// What makes a configuration ready while these sources run. They must not change until it is put in force.
    pub fn preparation(&self) -> Preparation {
        let running = self
            .running
            .iter()
            .map(|(name, running)| (name.clone(), (running.config.clone(), running.told.clone())));
        Preparation {
            metrics: self.metrics.clone(),
            guards: self.guards.clone(),
            running: running.collect(),
            state: self.store.directory(),
        }
    }

    /// Makes the sources run that are ready. One that is no longer configured stops and takes its metrics along.
    pub async fn commit(&mut self, prepared: Prepared) {
        let Prepared { sources, state, mut told } = prepared;
        let mut shown = self.shown.borrow().clone();
        let goes_on = |name: &SourceName| {
            let of = |(config, change): &&(SourceConfig, Change)| {
                config.name == *name && !matches!(change, Change::New(_))
            };
            sources.iter().any(|source| of(&source))
        };
        let stopped: Vec<_> = self.running.keys().filter(|name| !goes_on(name)).cloned().collect();
        for name in stopped {
            shown.remove(&name);
            if let Some(mut running) = self.running.remove(&name) {
                running.task.abort();
                // What it still does must not count for one of the same name.
                let _ = timeout(LONGEST_END, &mut running.task).await;
                tracing::info!(source = name.as_str(), "source stops");
            }
            self.metrics.forget(&name);
        }
        self.store.open(state);
        let mut number = 0;
        for (config, change) in sources {
            let name = config.name.clone();
            let next = Instant::now() + FIRST_POLL_SPREAD.saturating_mul(number).min(LATEST_FIRST_POLL);
            match change {
                Change::None => {}
                Change::Settings(provider) => {
                    number += 1;
                    tracing::info!(source = name.as_str(), "source goes on with other settings");
                    if let (Some(running), Some(shown)) = (self.running.get_mut(&name), shown.get_mut(&name))
                    {
                        shown.series_limit = config.series_limit;
                        shown.metrics.operations(&operations(&config));
                        running.config = config.clone();
                        running.settings.send_replace(Some(Settings { config, provider, next }));
                    }
                }
                Change::New(provider) => {
                    number += 1;
                    let credential = config.cloud.credential();
                    tracing::info!(source = name.as_str(), credential, "source starts");
                    let series_limit = config.series_limit;
                    let metrics = source_metrics(&config, &self.metrics);
                    let (mut source, states) =
                        Source::new(config.clone(), info(&config), provider, metrics.clone());
                    let settings = source.settings();
                    let keeper = self.store.keeper(&config, &mut source, metrics.clone());
                    shown.insert(name.clone(), exposition::Source { states, series_limit, metrics });
                    let task = tokio::spawn(run(source, next, keeper));
                    let running = Running { config, settings, task, told: None };
                    self.running.insert(name.clone(), running);
                }
            }
            if let Some(running) = self.running.get_mut(&name) {
                running.told = told.remove(&name);
            }
        }
        let files = self.running.values().flat_map(|running| running.config.connection.tls.paths());
        self.files.send_replace(files.map(Path::to_owned).collect());
        self.shown.send_replace(shown);
    }

    /// Says to `changed`, for ever, when a file that a source names may hold something else than what is in force.
    pub fn watch_files(&self, changed: mpsc::Sender<()>) -> impl Future<Output = ()> + Send + use<> {
        watch_files(self.files.subscribe(), changed)
    }

    /// Notes what came of loading the configuration anew.
    pub fn reloaded(&self, outcome: &Result<(), String>) {
        self.metrics.config_loaded(outcome.is_ok(), Timestamp::from(SystemTime::now()));
        match outcome {
            Ok(()) => {
                self.guards.reloaded();
                tracing::info!("configuration reloaded");
            }
            Err(problems) => {
                tracing::error!(error = problems, "configuration not reloaded, the old one stays in force");
            }
        }
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
) -> Result<(Source, watch::Receiver<Arc<SourceState>>), Problem> {
    let metrics = source_metrics(&config, metrics);
    let (provider, info) = (provider(&config, guards, metrics.clone())?, info(&config));
    Ok(Source::new(config, info, provider, metrics))
}

/// Goes on with what the snapshot says, polls, and keeps what the polls learn; no end.
async fn run(mut source: Source, first: Instant, keeper: Keeper) {
    keeper.restore(&mut source).await;
    tokio::select! {
        () = source.run(first) => {}
        () = keeper.run() => {}
    }
}

async fn watch_files(mut files: watch::Receiver<BTreeSet<PathBuf>>, changed: mpsc::Sender<()>) {
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut seen, mut told) = (None, None);
    loop {
        looks.tick().await;
        let paths = files.borrow_and_update().clone();
        if paths.is_empty() {
            // Nothing to look at, and where no sources run any more nobody to tell.
            if files.changed().await.is_err() {
                pending::<()>().await;
            }
            continue;
        }
        // A file system may take its time.
        let look =
            spawn_blocking(move || paths.into_iter().map(|path| (stamp(&path), path)).collect::<Vec<_>>());
        let Ok(now) = look.await else { continue };
        if told.as_ref() == Some(&now) {
            seen = None;
        } else if seen.as_ref() != Some(&now) {
            seen = Some(now);
        } else if changed.send(()).await.is_ok() {
            told = seen.take();
        }
    }
}

/// The way to a source's cloud.
pub fn provider(
    config: &SourceConfig,
    guards: &Guards,
    metrics: SourceMetrics,
) -> Result<Arc<dyn Provider>, Problem> {
    let failed = |error: io::Error| Problem {
        key: format!("sources.{}", config.name),
        message: format!("cannot be set up: {}; see its key tls", chain(&error)),
    };
    let guards = guards.clone();
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

//! Puts the stages together and keeps them together: the commands, from their start to their exit code.

pub mod demo;
pub mod once;

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::cli::Cli;
use crate::client::Guards;
use crate::config::{Cloud, Config, SourceConfig};
use crate::exposition::{self, Sources, page::Pages};
use crate::inventory::{SourceInfo, SourceName, Timestamp};
use crate::provider::{Provider, ncr::Ncr, swr::Swr};
use crate::scheduler::{Source, collectors};
use crate::server::{ServeError, Server, Site};
use crate::telemetry::self_metrics::SelfMetrics;

/// The first polls of many sources are spread by this much, so that they do not all begin at the same moment.
const FIRST_POLL_SPREAD: Duration = Duration::from_millis(100);
/// The last source's first poll is not later than this.
const LATEST_FIRST_POLL: Duration = Duration::from_secs(5);

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The server cannot start.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A source's connection cannot be set up.
    #[error("source {name} cannot be set up")]
    Source {
        /// The source.
        name: SourceName,
        /// A certificate that cannot be read, usually.
        source: io::Error,
    },
    /// A signal, a socket or a file that the command needs cannot be had.
    #[error("{what}")]
    System {
        /// What cannot be had.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A task that should run as long as the process has ended.
    #[error("a task ended that never should; this is a defect of the exporter")]
    Ended(#[source] Option<JoinError>),
}

/// Runs the exporter until SIGTERM or SIGINT, which are a success. `started` is when the process started; `company`
/// runs beside it, for the demo.
pub async fn serve(
    config: Config,
    cli: &Cli,
    started: Instant,
    company: impl Future<Output = ()> + Send + 'static,
) -> Result<(), AppError> {
    let stop_signal = StopSignal::new()?;
    let server = Server::bind(&cli.listen_addresses).await?;
    let metrics = SelfMetrics::new();
    metrics.config_loaded(true, Timestamp::from(SystemTime::now()));
    let guards = Guards::default();
    let mut tasks = JoinSet::new();
    let mut sources = Sources::new();
    for (number, config) in config.sources.into_iter().enumerate() {
        let (name, series_limit) = (config.name.clone(), config.series_limit);
        let (source, states, metrics) = source(config, &guards, &metrics)?;
        sources.insert(name, exposition::Source { states, series_limit, metrics });
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let delay = FIRST_POLL_SPREAD.saturating_mul(number).min(LATEST_FIRST_POLL);
        tasks.spawn(source.run(tokio::time::Instant::now() + delay));
    }
    // Kept until the end: the renderer would take its loss for the end of all sources.
    let (_sources, receiver) = watch::channel(sources);
    let pages = Arc::new(Pages::default());
    tasks.spawn(exposition::run(receiver.clone(), Arc::clone(&pages)));
    let site = Site::new(cli.telemetry_path.clone(), receiver, pages, metrics, started);
    let stop = CancellationToken::new();
    let mut server = tokio::spawn(server.run(Arc::new(site), stop.clone()));
    tasks.spawn(company);
    let ended = tokio::select! {
        () = stop_signal.received() => None,
        ended = tasks.join_next() => Some(ended.and_then(Result::err)),
        ended = &mut server => Some(ended.err()),
    };
    // Polls under way are dropped, scrapes under way finish.
    tasks.abort_all();
    stop.cancel();
    match ended {
        None => {
            tracing::info!("stopping");
            server.await.map_err(|error| AppError::Ended(Some(error)))
        }
        Some(error) => Err(AppError::Ended(error)),
    }
}

/// A source as configured, its published states and its metrics.
fn source(
    config: SourceConfig,
    guards: &Guards,
    metrics: &SelfMetrics,
) -> Result<
    (
        Source,
        watch::Receiver<Arc<crate::scheduler::SourceState>>,
        crate::telemetry::self_metrics::SourceMetrics,
    ),
    AppError,
> {
    let metrics = metrics.source(&config.name, &collectors(&config), config.poll.interval);
    let failed = |source| AppError::Source { name: config.name.clone(), source };
    let (guards, own) = (guards.clone(), metrics.clone());
    let (provider, name, region, endpoint): (Arc<dyn Provider>, _, _, _) = match &config.cloud {
        Cloud::Swr(swr) => {
            let provider = Swr::new(&config, swr, guards, own).map_err(failed)?;
            (Arc::new(provider), "swr", &swr.region, &swr.endpoint)
        }
        Cloud::Ncr(ncr) => {
            let provider = Ncr::new(&config, ncr, guards, own).map_err(failed)?;
            (Arc::new(provider), "ncr", &ncr.region, &ncr.endpoint)
        }
    };
    let info = SourceInfo {
        name: config.name.clone(),
        provider: name,
        cloud_region: region.clone(),
        api_host: endpoint[url::Position::BeforeHost..url::Position::AfterPort].to_owned(),
    };
    let (source, states) = Source::new(config, info, provider, metrics.clone());
    Ok((source, states, metrics))
}

/// The environment of the process. What is not UTF-8 cannot be meant for this program.
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// SIGTERM and SIGINT. SIGHUP, which would end the process, is taken and answered with a word in the log.
struct StopSignal {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl StopSignal {
    fn new() -> Result<Self, AppError> {
        let listen = |kind| {
            let what = "cannot listen for signals".to_owned();
            signal(kind).map_err(|source| AppError::System { what, source })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn received(mut self) {
        loop {
            tokio::select! {
                Some(()) = self.terminate.recv() => return,
                Some(()) = self.interrupt.recv() => return,
                Some(()) = self.hang_up.recv() => {
                    tracing::warn!("this version does not reload its configuration: restart it instead");
                }
                else => pending().await,
            }
        }
    }
}

//! Puts the stages together and keeps them together: the commands, from their start to their exit code.

pub mod check;
pub mod demo;
pub mod once;
mod reload;
pub mod signals;
pub mod sources;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::cli::Cli;
use crate::config::{Config, ConfigError};
use crate::exposition::{self, page::Pages};
use crate::inventory::Timestamp;
use crate::server::{ServeError, Server, Site, WebConfigFile};
use crate::telemetry::self_metrics::SelfMetrics;
use reload::Reloads;
use signals::{Signal, Signals};
use sources::RunningSources;

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The server cannot start.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The sources cannot be set up as configured.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What `--output` names cannot be written to.
    #[error("--output {path} cannot be used")]
    Output {
        /// As given.
        path: String,
        /// Why.
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

/// Runs the exporter until `signals` end it. `load` reads the configuration anew when a reload is asked for; `web` is
/// what protects the server; `started` is when the process started; `company` runs beside it, for the demo.
pub async fn serve(
    config: Config,
    load: impl Fn() -> Result<Config, ConfigError> + Send + Sync + 'static,
    cli: &Cli,
    web: Arc<WebConfigFile>,
    started: Instant,
    mut signals: Signals,
    company: impl Future<Output = ()> + Send + 'static,
) -> Result<(), AppError> {
    let server =
        if cli.systemd_socket { Server::inherit()? } else { Server::bind(&cli.listen_addresses).await? };
    let server = server.protected(Arc::clone(&web));
    let (request, mut requests) = mpsc::channel(1);
    let (renewal, mut renewals) = mpsc::channel(1);
    let metrics = SelfMetrics::new();
    let first = {
        let metrics = metrics.clone();
        blocking(move || {
            let sources = RunningSources::new(metrics);
            let prepared = sources.preparation().prepare(config);
            (sources, prepared)
        })
    };
    let (mut sources, prepared) = tokio::select! {
        first = first => first?,
        _ = signals.next(false) => {
            tracing::info!("stopping");
            return Ok(());
        }
    };
    sources.commit(prepared?).await;
    metrics.config_loaded(true, Timestamp::from(SystemTime::now()));
    let pages = Arc::new(Pages::default());
    let shown = sources.shown.subscribe();
    let site =
        Site::new(cli.telemetry_path.clone(), shown.clone(), Arc::clone(&pages), metrics, started, request);
    let stop = CancellationToken::new();
    let mut server = tokio::spawn(server.run(Arc::new(site), stop.clone()));
    let mut tasks = JoinSet::new();
    tasks.spawn(exposition::run(shown, pages));
    tasks.spawn(company);
    tasks.spawn(Arc::clone(&web).watch());
    tasks.spawn(sources.watch_files(renewal));
    let mut reloads = Reloads::new(load, web);
    let ended = loop {
        let idle = reloads.idle();
        tokio::select! {
            signal = signals.next(idle) => match signal {
                Signal::Stop => break None,
                Signal::Reload => reloads.begin(sources.preparation(), None),
            },
            Some(request) = requests.recv(), if idle => reloads.begin(sources.preparation(), Some(request)),
            Some(()) = renewals.recv(), if idle => reloads.renew(sources.preparation()),
            reload = reloads.ready() => match reload {
                Ok(reload) => reload.commit(&mut sources).await,
                Err(error) => break Some(Some(error)),
            },
            ended = tasks.join_next() => break Some(ended.and_then(Result::err)),
            ended = sources.ended() => break Some(ended),
            ended = &mut server => break Some(ended.err()),
        }
    };
    // Polls under way are dropped, scrapes under way finish.
    drop(sources);
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

/// Does what may take long, or never end, on a thread of its own.
///
/// Errors: it panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, AppError> {
    spawn_blocking(work).await.map_err(|error| AppError::Ended(Some(error)))
}

/// Two outcomes, or all problems of both.
pub fn both<A, B>(a: Result<A, ConfigError>, b: Result<B, ConfigError>) -> Result<(A, B), ConfigError> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(a), Err(b)) => Err(ConfigError { problems: [a.problems, b.problems].concat() }),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// The environment of the process. A replacement character stands for what is not UTF-8: see
/// [`crate::config::is_unreadable`].
pub fn environment() -> BTreeMap<String, String> {
    let text = |text: OsString| text.into_string().unwrap_or_else(|text| text.to_string_lossy().into_owned());
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

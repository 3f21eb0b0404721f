//! `once`: every source polled to its end, and what was read printed or written to a file.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::sources::source;
use super::{AppError, blocking};
use crate::client::Guards;
use crate::config::Config;
use crate::exposition;
use crate::telemetry::self_metrics::SelfMetrics;

/// Polls every source once, side by side, and writes the metrics to stdout, or to `output` in one step. A failure if a
/// source failed, or `timeout` came first: what was read is out all the same. `None` if `stop` came before there was
/// anything to write.
///
/// Where no source could be listed `output` is left as it was.
pub async fn run(
    config: Config,
    output: Option<PathBuf>,
    timeout: Option<Duration>,
    stop: &CancellationToken,
) -> Result<Option<ExitCode>, AppError> {
    let metrics = SelfMetrics::new();
    let guards = Guards::default();
    let mut sources = Vec::new();
    for config in config.sources {
        let series_limit = config.series_limit;
        let (source, states) = source(config, &guards, &metrics)?;
        sources.push((source, states, series_limit));
    }
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let polls = join_all(sources.iter_mut().map(|(source, _, _)| source.poll(deadline)));
    let Some(polled) = stop.run_until_cancelled(polls).await else { return Ok(None) };
    let mut complete = polled.into_iter().all(|succeeded| succeeded);
    let mut inventories = Vec::new();
    for (_, states, series_limit) in sources {
        let state = Arc::clone(&states.borrow());
        complete &= state.status.tags_pending == 0;
        inventories.push((Arc::clone(&state.inventory), series_limit));
    }
    let any = inventories.iter().any(|(inventory, _)| inventory.repositories.is_some());
    let page = exposition::page_of(&inventories, &metrics);
    let code = if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if let Some(path) = output.as_ref().filter(|_| !any) {
        tracing::error!(file = %path.display(), "no source could be listed, the file is left as it was");
        return Ok(Some(code));
    }
    let what = output.as_ref().map_or_else(|| "stdout".to_owned(), |path| path.display().to_string());
    let written = blocking(move || match output {
        None => io::stdout().write_all(&page),
        Some(path) => replace(&path, &page),
    });
    let what = format!("{what} cannot be written");
    written.await?.map_err(|source| AppError::System { what, source })?;
    Ok(Some(code))
}

/// Puts `content` in place of the file in one step, readable for everybody whom the umask does not exclude.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The collector of node_exporter takes every file that ends in `.prom`.
    let mut builder = tempfile::Builder::new();
    builder.prefix(".container-registry-exporter-").suffix(".tmp");
    let mut file = builder.permissions(Permissions::from_mode(0o644)).tempfile_in(directory)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

//! `once`: every source polled to its end, and what was read printed or written to a file.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::AppError;
use super::sources::source;
use crate::client::Guards;
use crate::config::Config;
use crate::exposition;
use crate::telemetry::self_metrics::SelfMetrics;

/// What a round of polls came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every source was read to the end.
    Complete,
    /// A source failed, or `timeout` came first; what was read is out all the same.
    Failed,
}

/// Polls every source once, side by side, and writes the metrics to stdout, or to `output` in one step.
///
/// Where no source could be listed `output` is left as it was.
pub async fn run(
    config: Config,
    output: Option<PathBuf>,
    timeout: Option<Duration>,
) -> Result<Outcome, AppError> {
    let metrics = SelfMetrics::new();
    let guards = Guards::default();
    let mut sources = Vec::new();
    for config in config.sources {
        let series_limit = config.series_limit;
        let (source, states) = source(config, &guards, &metrics)?;
        sources.push((source, states, series_limit));
    }
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let polled = join_all(sources.iter_mut().map(|(source, _, _)| source.poll(deadline))).await;
    let mut complete = polled.into_iter().all(|succeeded| succeeded);
    let mut inventories = Vec::new();
    for (_, states, series_limit) in sources {
        let state = Arc::clone(&states.borrow());
        complete &= state.status.tags_pending == 0;
        inventories.push((Arc::clone(&state.inventory), series_limit));
    }
    let any = inventories.iter().any(|(inventory, _)| inventory.repositories.is_some());
    let page = exposition::page_of(&inventories, &metrics);
    let outcome = if complete { Outcome::Complete } else { Outcome::Failed };
    let (what, written) = match output {
        None => ("stdout cannot be written".to_owned(), io::stdout().write_all(&page)),
        Some(path) if any => (format!("{} cannot be written", path.display()), replace(&path, &page)),
        Some(path) => {
            tracing::error!(file = %path.display(), "no source could be listed, the file is left as it was");
            return Ok(outcome);
        }
    };
    written.map_err(|source| AppError::System { what, source })?;
    Ok(outcome)
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

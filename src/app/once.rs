//! `once`: every source polled to its end, and what was read printed or written to a file.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::sources::{all, source};
use super::{AppError, blocking};
use crate::client::Guards;
use crate::config::Config;
use crate::exposition;
use crate::telemetry::logging;
use crate::telemetry::self_metrics::SelfMetrics;

/// Polls every source once, side by side, and writes the metrics to stdout or to what `output` names. A failure if a
/// source failed, or `timeout` came first: what was read is out all the same. `None` if `stop` came before there was
/// anything to write.
///
/// Where no source could be listed a file is left as it was.
///
/// Errors: a source cannot be set up; `output` cannot be written to.
pub async fn run(
    config: Config,
    output: Option<PathBuf>,
    timeout: Option<Duration>,
    stop: &CancellationToken,
) -> Result<Option<ExitCode>, AppError> {
    let name = output.as_ref().map_or_else(|| "stdout".to_owned(), |path| path.display().to_string());
    let looking = blocking(move || Target::look(output.as_deref()));
    let Some(target) = stop.run_until_cancelled(looking).await else { return Ok(None) };
    let target = target?.map_err(|source| AppError::Output { path: name.clone(), source })?;
    let metrics = SelfMetrics::new();
    let guards = Guards::default();
    let mut sources = all(config.sources.into_iter().map(|config| {
        let series_limit = config.series_limit;
        let (source, states) = source(config, &guards, &metrics)?;
        Ok((source, states, series_limit))
    }))?;
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let polls = join_all(sources.iter_mut().map(|(source, _, _)| source.poll(deadline)));
    let Some(polled) = stop.run_until_cancelled(polls).await else { return Ok(None) };
    let mut complete = polled.into_iter().all(|succeeded| succeeded);
    let mut inventories = Vec::new();
    for (_, states, series_limit) in sources {
        let state = Arc::clone(&states.borrow());
        // A single repository is no failed source; what the time did not suffice for is.
        complete &= state.status.tags_pending <= state.status.tags_failing;
        inventories.push((Arc::clone(&state.inventory), series_limit));
    }
    let any = inventories.iter().any(|(inventory, _)| inventory.repositories.is_some());
    let page = exposition::page_of(&inventories, &metrics);
    let code = if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let failed = |source| AppError::System { what: format!("{name} cannot be written"), source };
    let target = match target {
        Target::File(path) if !any => {
            tracing::error!(file = %path.display(), "no source could be listed, the file is left as it was");
            return Ok(Some(code));
        }
        // A named pipe is opened when its reader comes.
        Target::Into(path) => {
            let opening = blocking(move || open(&path));
            let Some(opened) = stop.run_until_cancelled(opening).await else { return Ok(None) };
            Target::Open(opened?.map_err(failed)?)
        }
        target => target,
    };
    // From here on a signal waits for the end, so that nothing is half written.
    blocking(move || target.write(&page)).await?.map_err(failed)?;
    Ok(Some(code))
}

/// Where the metrics go.
enum Target {
    /// A regular file, or nothing yet: it is replaced in one step.
    File(PathBuf),
    /// A named pipe, a device or the like: it is written into.
    Into(PathBuf),
    /// What is open already: it is gone on with.
    Open(File),
}

impl Target {
    /// Looks at what `output` names; without one that is stdout.
    ///
    /// Errors: it is a directory, or cannot be looked at.
    fn look(output: Option<&Path>) -> io::Result<Self> {
        let stdout = opened(io::stdout())?;
        let Some(path) = output.filter(|path| *path != Path::new("-")) else { return Ok(Self::Open(stdout)) };
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::File(followed(path))),
            Err(error) => return Err(error),
        };
        // `/dev/stdout` may lead to a file that somebody else keeps, with more in it.
        for open in [stdout, opened(io::stderr())?] {
            if same(&open.metadata()?, &metadata) {
                return Ok(Self::Open(open));
            }
        }
        if metadata.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory; name a file in it"));
        }
        let file = followed(path);
        let is_there = fs::metadata(&file).is_ok_and(|followed| same(&followed, &metadata));
        Ok(if metadata.is_file() && is_there { Self::File(file) } else { Self::Into(path.to_owned()) })
    }

    fn write(self, content: &[u8]) -> io::Result<()> {
        match self {
            Self::File(path) => replace(&path, content),
            Self::Into(path) => logging::write_whole(&mut open(&path)?, content),
            Self::Open(mut file) => logging::write_whole(&mut file, content),
        }
    }
}

fn opened(stream: impl AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}

fn same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Opens what is no regular file, to write into it.
fn open(path: &Path) -> io::Result<File> {
    if fs::metadata(path)?.file_type().is_socket() {
        return Ok(File::from(OwnedFd::from(UnixStream::connect(path)?)));
    }
    OpenOptions::new().write(true).open(path)
}

/// Where a link leads to, and be it to nothing yet.
fn followed(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    // As many as the system follows.
    for _ in 0..40 {
        let Ok(to) = fs::read_link(&path) else { break };
        path = directory(&path).join(to);
    }
    path
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Puts `content` in place of the file in one step, readable for everybody whom the umask does not exclude.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    // The collector of node_exporter takes every file that ends in `.prom`.
    let mut builder = tempfile::Builder::new();
    builder.prefix(".container-registry-exporter-").suffix(".tmp");
    let mut file = builder.permissions(Permissions::from_mode(0o644)).tempfile_in(directory(path))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

//! The snapshot of what each source knows, kept on disk for the next start.
//!
//! One file per source, replaced in one step after each poll that learned something, beside the polls and never two at
//! once. A file that is not whole, not ours or made with another configuration is left alone: the source then starts
//! with nothing, as it does without a file.

pub mod decode;
pub mod encode;
mod file;
pub mod identity;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::spawn_blocking;

use crate::config::SourceConfig;
use crate::inventory::{SourceName, Timestamp};
use crate::scheduler::{Memory, Source};
use crate::telemetry::logging::chain;
use crate::telemetry::self_metrics::SourceMetrics;
use decode::DecodeError;
use identity::{Identity, identity};

/// Why a snapshot cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file or its directory.
    #[error("cannot be read or written")]
    Io(#[from] io::Error),
    /// What the file says.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// The directory of the snapshots, or none. Cloning shares it.
#[derive(Clone, Default)]
pub struct Store(Arc<Shared>);

struct Shared {
    directory: Mutex<Option<PathBuf>>,
    /// The turn to write a file, however slow the disk is. Who waits for it holds no thread.
    writing: Arc<Semaphore>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { directory: Mutex::default(), writing: Arc::new(Semaphore::new(1)) }
    }
}

impl Store {
    /// Keeps snapshots in `directory` from now on, which is made if need be, or nowhere. A directory that cannot be
    /// used is warned of: the sources run without it, and go on trying.
    pub fn open(&self, directory: Option<PathBuf>) {
        if let Some(directory) = &directory
            && self.directory().as_ref() != Some(directory)
            && let Err(error) = file::prepare(directory)
        {
            tracing::warn!(
                directory = %directory.display(),
                error = chain(&error),
                "the directory of the snapshots cannot be used, a restart will begin with nothing"
            );
        }
        *lock(&self.0.directory) = directory;
    }

    /// Gives a source that does not run yet what its snapshot says, and returns what keeps the snapshot from now on.
    pub fn keeper(&self, config: &SourceConfig, source: &mut Source, metrics: SourceMetrics) -> Keeper {
        let identity = identity(config);
        self.restore(&config.name, &identity, source, &metrics);
        Keeper {
            store: self.clone(),
            name: config.name.clone(),
            identity,
            metrics,
            memories: source.memories(),
            failing: false,
            running: Running(Arc::new(AtomicBool::new(true))),
        }
    }

    fn restore(&self, name: &SourceName, identity: &Identity, source: &mut Source, metrics: &SourceMetrics) {
        let Some(directory) = self.directory() else { return };
        let path = directory.join(file::snapshot(name));
        let memory = match file::read(&path, identity) {
            Ok(memory) => memory,
            Err(error) => {
                tracing::warn!(
                    source = name.as_str(),
                    file = %path.display(),
                    error = chain(&error),
                    "the snapshot is not used"
                );
                None
            }
        };
        metrics.snapshot_restored(memory.is_some());
        if let Some(memory) = memory {
            tracing::info!(
                source = name.as_str(),
                file = %path.display(),
                repositories = memory.repositories.as_ref().map(|known| {
                    known.listings.iter().map(|list| list.rows.len()).sum::<usize>()
                }),
                "goes on with what the snapshot holds"
            );
            metrics.snapshot_time(memory.taken);
            source.restore(memory, SystemTime::now());
        }
    }

    /// Waits until nobody writes.
    async fn turn(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.0.writing).acquire_owned().await.expect("it is never closed")
    }

    fn directory(&self) -> Option<PathBuf> {
        lock(&self.0.directory).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the snapshots of one source.
pub struct Keeper {
    store: Store,
    name: SourceName,
    identity: Identity,
    metrics: SourceMetrics,
    memories: mpsc::Receiver<Memory>,
    failing: bool,
    running: Running,
}

/// Says to a write that has not begun when its source is gone, so that it spares what a new source of the same name
/// has written.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Keeper {
    /// Writes whatever the source hands out, one after the other, until the source is gone.
    pub async fn run(mut self) {
        while let Some(memory) = self.memories.recv().await {
            let taken = memory.taken;
            let (store, name, identity) = (self.store.clone(), self.name.clone(), self.identity);
            let running = Arc::clone(&self.running.0);
            let turn = store.turn().await;
            let written = spawn_blocking(move || {
                let _turn = turn;
                let Some(directory) = store.directory() else { return Ok(false) };
                let bytes = encode::encode(&memory, &identity)?;
                drop(memory);
                if running.load(Ordering::Relaxed) {
                    file::replace(&directory, &file::snapshot(&name), &bytes)?;
                }
                Ok(true)
            });
            match written.await {
                Ok(Ok(true)) => self.succeeded(taken),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => self.failed(&StateError::Io(error)),
                Err(error) => self.failed(&io::Error::other(error).into()),
            }
        }
    }

    fn succeeded(&mut self, taken: Timestamp) {
        self.metrics.snapshot_time(taken);
        if std::mem::take(&mut self.failing) {
            tracing::info!(source = self.name.as_str(), "the snapshot is written again");
        }
    }

    fn failed(&mut self, error: &StateError) {
        self.metrics.snapshot_failed();
        let (source, error) = (self.name.as_str(), chain(error));
        if std::mem::replace(&mut self.failing, true) {
            tracing::debug!(source, error, "the snapshot is not written");
        } else {
            tracing::warn!(
                source,
                error,
                "the snapshot is not written, a restart will begin with older data"
            );
        }
    }
}

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
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

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

/// A snapshot that is not read by then is not waited for: a disk that does not answer must not keep a source from
/// polling. The largest takes some seconds.
const LONGEST_READ: Duration = Duration::from_mins(1);

/// The directory of the snapshots, or none. Cloning shares it.
#[derive(Clone, Default)]
pub struct Store(Arc<Shared>);

#[derive(Default)]
struct Shared {
    directory: Mutex<Option<PathBuf>>,
    /// Held while a file is read or written: a disk that does not answer costs one thread, and what is large is in
    /// memory once.
    disk: Arc<tokio::sync::Mutex<()>>,
}

impl Store {
    /// Keeps snapshots in `directory` from now on, which is made if need be, or nowhere. A directory that cannot be
    /// used is warned of: the sources run without it, and go on trying.
    pub fn open(&self, directory: Option<PathBuf>) {
        let before = std::mem::replace(&mut *lock(&self.0.directory), directory.clone());
        let Some(directory) = directory.filter(|directory| before.as_ref() != Some(directory)) else {
            return;
        };
        let store = self.clone();
        tokio::spawn(async move {
            let prepared = directory.clone();
            if let Err(error) = store.with_disk(move || file::prepare(&prepared)).await.flatten() {
                tracing::warn!(
                    directory = %directory.display(),
                    error = chain(&error),
                    "the directory of the snapshots cannot be used, a restart will begin with nothing"
                );
            }
        });
    }

    /// Where snapshots are kept.
    pub fn directory(&self) -> Option<PathBuf> {
        lock(&self.0.directory).clone()
    }

    /// Does some work in a thread that may wait, alone with the disk.
    async fn with_disk<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let alone = Arc::clone(&self.0.disk).lock_owned().await;
        let done = spawn_blocking(move || {
            let done = work();
            drop(alone);
            done
        });
        done.await.map_err(io::Error::other)
    }

    /// What keeps the snapshot of a source that does not run yet.
    pub fn keeper(&self, config: &SourceConfig, source: &mut Source, metrics: SourceMetrics) -> Keeper {
        Keeper {
            store: self.clone(),
            name: config.name.clone(),
            identity: identity(config),
            metrics,
            memories: source.memories(),
            failing: false,
            running: Running(Arc::new(AtomicBool::new(true))),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads and writes the snapshots of one source.
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
    /// Gives the source, before it runs, what its snapshot says.
    pub async fn restore(&self, source: &mut Source) {
        let Some(directory) = self.store.directory() else { return };
        let path = directory.join(file::snapshot(&self.name));
        let (from, identity) = (path.clone(), self.identity);
        let read = timeout(LONGEST_READ, self.store.with_disk(move || file::read(&from, &identity))).await;
        let read = read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let memory = read.map_err(StateError::from).flatten().unwrap_or_else(|error| {
            tracing::warn!(
                source = self.name.as_str(),
                file = %path.display(),
                error = chain(&error),
                "the snapshot is not used"
            );
            None
        });
        let restored = memory.is_some();
        if let Some(memory) = memory {
            tracing::info!(
                source = self.name.as_str(),
                file = %path.display(),
                repositories = memory.repositories.as_ref().map(|known| {
                    known.listings.iter().map(|list| list.rows.len()).sum::<usize>()
                }),
                "goes on with what the snapshot holds"
            );
            self.metrics.snapshot_time(memory.taken);
            source.restore(memory, SystemTime::now());
        }
        self.metrics.snapshot_restored(restored);
    }

    /// Writes whatever the source hands out, one after the other, until the source is gone.
    pub async fn run(mut self) {
        while let Some(memory) = self.memories.recv().await {
            let taken = memory.taken;
            let Some(directory) = self.store.directory() else { continue };
            let (name, identity) = (self.name.clone(), self.identity);
            let running = Arc::clone(&self.running.0);
            let written = self.store.with_disk(move || {
                let bytes = encode::encode(&memory, &identity)?;
                drop(memory);
                if running.load(Ordering::Relaxed) {
                    file::replace(&directory, &file::snapshot(&name), &bytes)?;
                }
                Ok(())
            });
            match written.await.flatten() {
                Ok(()) => self.succeeded(taken),
                Err(error) => self.failed(&StateError::Io(error)),
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

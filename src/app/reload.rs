//! A reload: everything is read and made ready beside the main task, and then put in force in one step or not at all.

use std::future::pending;
use std::sync::Arc;

use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use super::both;
use super::sources::{Preparation, Prepared, RunningSources};
use crate::config::{Config, ConfigError};
use crate::server::{NewWebConfig, ReloadRequest, WebConfigFile};

/// The reloads of a process, one at a time. Reading files may take any time: it happens in a thread that may wait, so
/// that signals and requests are answered meanwhile.
pub struct Reloads<L> {
    load: Arc<L>,
    web: Arc<WebConfigFile>,
    under_way: Option<UnderWay>,
}

struct UnderWay {
    asked: Asked,
    work: JoinHandle<Result<Ready, ConfigError>>,
}

enum Asked {
    /// By a signal, or by somebody who waits for the answer.
    ForAll(Option<ReloadRequest>),
    /// Because files changed that the configuration in force names.
    ForFiles,
}

/// What is ready to be put in force.
struct Ready {
    sources: Prepared,
    web: Option<NewWebConfig>,
}

impl<L: Fn() -> Result<Config, ConfigError> + Send + Sync + 'static> Reloads<L> {
    /// None yet; each will `load` the configuration, and read `web` again.
    pub fn new(load: L, web: Arc<WebConfigFile>) -> Self {
        Self { load: Arc::new(load), web, under_way: None }
    }

    /// Whether none is under way, so that one may begin.
    pub fn idle(&self) -> bool {
        self.under_way.is_none()
    }

    /// Begins to load everything anew.
    pub fn begin(&mut self, preparation: Preparation, request: Option<ReloadRequest>) {
        let (load, web) = (Arc::clone(&self.load), Arc::clone(&self.web));
        let work = spawn_blocking(move || {
            let sources = load().and_then(|config| preparation.prepare(config));
            let (sources, web) = both(sources, web.read())?;
            Ok(Ready { sources, web: Some(web) })
        });
        self.under_way = Some(UnderWay { asked: Asked::ForAll(request), work });
    }

    /// Begins to read the files anew that the configuration in force names.
    pub fn renew(&mut self, preparation: Preparation) {
        let work = spawn_blocking(move || Ok(Ready { sources: preparation.renew()?, web: None }));
        self.under_way = Some(UnderWay { asked: Asked::ForFiles, work });
    }

    /// Waits until the one under way is ready; for ever if there is none.
    ///
    /// Errors: it panicked.
    pub async fn ready(&mut self) -> Result<Reload, JoinError> {
        let Some(under_way) = &mut self.under_way else { return pending().await };
        let outcome = (&mut under_way.work).await;
        let asked = self.under_way.take().map_or(Asked::ForFiles, |under_way| under_way.asked);
        Ok(Reload { asked, outcome: outcome?, web: Arc::clone(&self.web) })
    }
}

/// A reload that has read everything.
pub struct Reload {
    asked: Asked,
    outcome: Result<Ready, ConfigError>,
    web: Arc<WebConfigFile>,
}

impl Reload {
    /// Puts all of it in force, unless something of it is wrong, and says so to whoever asked for it.
    pub async fn commit(self, sources: &mut RunningSources) {
        let outcome = match self.outcome {
            Ok(Ready { sources: prepared, web }) => {
                if let Some(web) = web {
                    self.web.replace(web);
                }
                sources.commit(prepared).await;
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        };
        match self.asked {
            Asked::ForAll(request) => {
                sources.reloaded(&outcome);
                if let Some(request) = request {
                    // Nobody may be left to hear it.
                    let _ = request.send(outcome);
                }
            }
            Asked::ForFiles => {
                if let Err(error) = outcome {
                    tracing::warn!(error, "changed files cannot be used, the old ones stay in force");
                }
            }
        }
    }
}

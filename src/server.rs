//! The HTTP server: listeners, the accept loop with its limits, and the graceful stop.

pub mod address;
mod body;
mod connection;
mod deadline;
mod landing;
mod listener;
mod places;
mod ready;
pub mod site;
pub mod status;
mod watched;
pub mod web_config;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use address::{AddressError, ListenAddress};
use listener::{Listener, Stream};
use places::{Place, Places, descriptor_limit};
pub use site::{ReloadRequest, Site};
pub use web_config::{NewWebConfig, WebConfigFile};

/// Pause after an accept that failed for a reason that nothing here can cure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// Answers under way may end in this time after the stop signal: two seconds less than the process has for it all.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The host name is unknown.
    #[error("cannot look up the listen address {address}")]
    LookUp {
        /// As configured.
        address: ListenAddress,
        /// The system's answer.
        source: io::Error,
    },
    /// The address is in use, not ours, or not allowed.
    #[error("cannot listen on {address}")]
    Listen {
        /// As configured.
        address: ListenAddress,
        /// The system's answer.
        source: io::Error,
    },
    /// What systemd handed over is no socket that listens.
    #[error("cannot listen on a socket from systemd")]
    Inherit(#[source] io::Error),
    /// systemd handed over nothing.
    #[error(
        "there is no socket from systemd: start the exporter by a socket unit, or without --web.systemd-socket"
    )]
    NothingInherited,
}

/// A server that listens.
pub struct Server {
    listeners: Vec<Listener>,
    web: Arc<WebConfigFile>,
}

impl Server {
    /// Listens on all `addresses` and logs each with its real port. It serves plain HTTP to everybody.
    pub async fn bind(addresses: &[ListenAddress]) -> Result<Self, ServeError> {
        let mut listeners = Vec::new();
        for address in addresses {
            listeners.push(listener::listen(address).await?);
        }
        Ok(Self::new(listeners))
    }

    /// Listens on the sockets that systemd hands over and logs each.
    pub fn inherit() -> Result<Self, ServeError> {
        listener::inherited().map(Self::new)
    }

    fn new(listeners: Vec<Listener>) -> Self {
        for listener in &listeners {
            tracing::info!(address = listener.place(), "listening");
        }
        Self { listeners, web: Arc::new(WebConfigFile::none()) }
    }

    /// The same server, which does as `web` says: TLS, users, limits.
    #[must_use]
    pub fn protected(self, web: Arc<WebConfigFile>) -> Self {
        Self { web, ..self }
    }

    /// The addresses it listens on, with their real ports; UNIX sockets have none.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(Listener::address).collect()
    }

    /// Serves `site` until `stop` is cancelled, and then until the answers under way are out, 3 s at most.
    pub async fn run(self, site: Arc<Site>, stop: CancellationToken) {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Places::new(descriptor_limit()));
        let loops = self.listeners.iter().map(|listener| {
            accept(listener, &places, |stream, place| {
                let (site, web) = (Arc::clone(&site), Arc::clone(&self.web));
                tokio::spawn(connection::serve(stream, site, web, place, graceful.watcher(), stop.clone()));
            })
        });
        stop.run_until_cancelled(join_all(loops)).await;
        drop(self.listeners);
        if timeout(STOP_TIMEOUT, graceful.shutdown()).await.is_err() {
            tracing::warn!("some answers were not taken in time and are cut off");
        }
    }
}

/// Accepts connections for ever and has them served.
async fn accept(listener: &Listener, places: &Arc<Places>, serve: impl Fn(Box<dyn Stream>, Place)) {
    let mut failing = false;
    loop {
        places.room().await;
        match listener.accept().await {
            Ok(stream) => {
                failing = false;
                serve(stream, places.take());
            }
            // The client went away before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) if lacks_descriptors(&error) && places.give_one_up(&error.to_string()).await => {}
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "cannot accept connections, trying on");
                    failing = true;
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether an error means that the process or the system has no file descriptor left.
fn lacks_descriptors(error: &io::Error) -> bool {
    // EMFILE and ENFILE have no kind of their own; their numbers are the same on all Unix systems.
    matches!(error.raw_os_error(), Some(23 | 24))
}

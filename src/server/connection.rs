//! One connection from its handshake to its end, with the limits on its time and memory.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::body::Body;
use super::deadline::Deadline;
use super::listener::Stream;
use super::places::Place;
use super::site::Site;
use super::web_config::{Handshake, WebConfigFile};

// No flag sets these limits: a scraper is far from them all, and whoever has others in mind sets the limit of
// descriptors (`LimitNOFILE=`, `ulimit -n`), of which clients get half, or puts a proxy before the exporter.

/// A TLS handshake must be done in this time. Then a request's head must arrive in it, and the next request of a
/// connection too.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest request head; ours need some hundred bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// So much of a page is given to the system in one call: a whole compressed page of 100,000 series.
const WRITE_BYTES: usize = 1024 * 1024;

/// What a connection is served with.
pub(super) struct Service {
    pub site: Arc<Site>,
    pub web: Arc<WebConfigFile>,
    pub place: Place,
    pub deadline: Deadline,
    /// Of TLS, once it is done.
    pub handshake: OnceLock<Handshake>,
}

impl Service {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        self.place.asked();
        let answer = self.deadline.answer();
        let response = self.web.current().answer(&self.site, &request, self.handshake.get()).await;
        Ok(response.map(|body| body.until_taken(answer)))
    }
}

/// Serves one connection to its end.
pub(super) async fn serve(
    stream: Box<dyn Stream>,
    site: Arc<Site>,
    web: Arc<WebConfigFile>,
    place: Place,
    watcher: Watcher,
    stop: CancellationToken,
) {
    let service = Arc::new(Service {
        site,
        web,
        place,
        deadline: Deadline::new(HEAD_TIMEOUT),
        handshake: OnceLock::new(),
    });
    tokio::select! {
        // What goes wrong here is the client's affair: it went away or sent something that is not HTTP.
        _ = converse(stream, Arc::clone(&service), watcher, stop) => {}
        () = service.deadline.passed() => {}
        () = service.place.closed() => {}
    }
}

/// Shakes hands if need be, and answers requests until the client goes.
async fn converse(
    stream: Box<dyn Stream>,
    service: Arc<Service>,
    watcher: Watcher,
    stop: CancellationToken,
) -> io::Result<()> {
    let Some(tls) = service.web.current().tls.clone() else {
        return speak(stream, service, watcher).await;
    };
    let handshake = timeout(HEAD_TIMEOUT, TlsAcceptor::from(Arc::clone(&tls.server)).accept(stream));
    // No answer is lost, so a stop need not wait for it.
    let Some(stream) = stop.run_until_cancelled(handshake).await else { return Ok(()) };
    let stream = stream?.inspect_err(|error| tracing::debug!(%error, "TLS handshake failed"))?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
    // It is done once.
    let _ = service.handshake.set(Handshake { tls, certificates });
    service.deadline.extend(HEAD_TIMEOUT);
    speak(Box::new(stream), service, watcher).await
}

async fn speak(stream: Box<dyn Stream>, service: Arc<Service>, watcher: Watcher) -> io::Result<()> {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(WRITE_BYTES)
        .serve_connection(TokioIo::new(stream), service_fn(|request| Arc::clone(&service).answer(request)));
    watcher.watch(connection).await.map_err(io::Error::other)
}

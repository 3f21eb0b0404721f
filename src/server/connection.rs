//! One connection from its handshake to its end, with the limits on its time and memory.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::body::Body;
use super::deadline::Deadline;
use super::listener::Stream;
use super::places::Place;
use super::site::Site;
use super::web_config::WebConfigFile;

// No flag sets these limits: a scraper is far from them all, and whoever has others in mind sets the limit of
// descriptors (`LimitNOFILE=`, `ulimit -n`), of which clients get half, or puts a proxy before the exporter.

/// A TLS handshake must be done in this time. Then a request's head must arrive in it, and over HTTP/1.1 the next
/// request of a connection too.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest request head; ours need some hundred bytes.
const MAX_HEAD_BYTES: u16 = 16 * 1024;
/// So much of a page is given to the system in one call: a whole compressed page of 100,000 series.
const WRITE_BYTES: usize = 1024 * 1024;
/// Requests that a client of HTTP/2 may have under way on one connection. Prometheus has one, a browser a few; each
/// keeps a page in memory, as a connection of HTTP/1.1 does.
const MAX_STREAMS: u32 = 8;
/// So much of each of these answers is handed on beyond what the client takes: a piece of the page.
const MAX_STREAM_SEND_BYTES: usize = 64 * 1024;
/// No request has a body that is read. This is the least window that HTTP/2 knows for a connection.
const RECEIVE_WINDOW_BYTES: u32 = 65_535;
/// Requests that a client took back before they were answered, and ours for its mistakes, that may be remembered.
/// More is an attack (CVE-2023-44487, CVE-2025-8671) and ends the connection.
const MAX_RESETS: usize = 20;

/// What a connection is served with.
pub(super) struct Service {
    pub site: Arc<Site>,
    pub web: Arc<WebConfigFile>,
    pub place: Place,
    pub deadline: Deadline,
}

impl Service {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        self.place.asked();
        let answer = self.deadline.answer();
        let response = self.web.current().answer(&self.site, &request).await;
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
    let service = Arc::new(Service { site, web, place, deadline: Deadline::new(HEAD_TIMEOUT) });
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
        return speak_http1(stream, service, watcher).await;
    };
    let handshake = timeout(HEAD_TIMEOUT, TlsAcceptor::from(tls).accept(stream));
    // No answer is lost, so a stop need not wait for it.
    let Some(stream) = stop.run_until_cancelled(handshake).await else { return Ok(()) };
    let stream = stream?.inspect_err(|error| tracing::debug!(%error, "TLS handshake failed"))?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    service.deadline.extend(HEAD_TIMEOUT);
    if http2 {
        speak_http2(Box::new(stream), service, watcher, stop).await
    } else {
        speak_http1(Box::new(stream), service, watcher).await
    }
}

async fn speak_http1(stream: Box<dyn Stream>, service: Arc<Service>, watcher: Watcher) -> io::Result<()> {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(MAX_HEAD_BYTES.into())
        .max_buf_size(WRITE_BYTES)
        .serve_connection(TokioIo::new(stream), service_fn(|request| Arc::clone(&service).answer(request)));
    watcher.watch(connection).await.map_err(io::Error::other)
}

async fn speak_http2(
    stream: Box<dyn Stream>,
    service: Arc<Service>,
    _watcher: Watcher,
    stop: CancellationToken,
) -> io::Result<()> {
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEAD_BYTES.into())
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(MAX_STREAM_SEND_BYTES)
        .initial_stream_window_size(RECEIVE_WINDOW_BYTES)
        .initial_connection_window_size(RECEIVE_WINDOW_BYTES)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| Arc::clone(&service).answer(request)),
        );
    let mut connection = pin!(connection);
    // The watcher could do this, but its library would bring a client of HTTP/2 with it. It is only held on to.
    if let Some(outcome) = stop.run_until_cancelled(connection.as_mut()).await {
        return outcome.map_err(io::Error::other);
    }
    connection.as_mut().graceful_shutdown();
    connection.await.map_err(io::Error::other)
}

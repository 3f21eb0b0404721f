//! One connection from its handshake to its end, with the limits on its time and memory.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, OnceLock};

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::body::Body;
use super::deadline::{Deadline, HEAD_TIMEOUT};
use super::listener::Stream;
use super::places::Place;
use super::site::Site;
use super::watched::Watched;
use super::web_config::{Handshake, WebConfigFile};

// No flag sets these limits: a scraper is far from them all, and whoever has others in mind sets the limit of
// descriptors (`LimitNOFILE=`, `ulimit -n`), of which clients get half, or puts a proxy before the exporter.

/// Longest request head; ours need some hundred bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// So much of a page is in hyper's hands at a time. These pieces are shared with all other answers.
const QUEUE_BYTES: usize = 1024 * 1024;
/// So much of an answer waits in encrypted form, which is nobody else's: one record.
const TLS_BUFFER_BYTES: usize = 16 * 1024;
/// What is read of a request's body, which nobody wants: after that the connection ends with the answer.
const MAX_BODY_BYTES: u64 = 4 * 1024 * 1024;
/// The methods of HTTP begin with one of these letters, no record of TLS does.
const FIRST_LETTERS: std::ops::RangeInclusive<u8> = b'A'..=b'Z';
/// In the words of Go's server, which people look for.
const PLAIN_ON_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 48\r\nConnection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

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
        self.deadline.asked();
        let (head, body) = request.into_parts();
        let request = Request::from_parts(head, ());
        // A client that waits to be asked for its body is not asked.
        let unread = request.headers().contains_key(EXPECT) && !body.is_end_stream()
            || body.size_hint().lower() > MAX_BODY_BYTES;
        if !unread && !body.is_end_stream() {
            // Beside the answer: a client may take nothing of it before it has sent all, or send nothing before.
            tokio::spawn(timeout(HEAD_TIMEOUT, drain(body)));
        }
        let mut response = self.web.current().answer(&self.site, &request, self.handshake.get()).await;
        if unread {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response.map(|body| body.of(self)))
    }

    /// The client has sent something.
    pub(super) fn something_came(&self) {
        self.deadline.something_came();
    }

    /// The system has all that there was to write.
    pub(super) fn all_written(&self) {
        if self.deadline.all_written() {
            self.place.answered();
        }
    }
}

/// Reads a body to its end, or until that is enough.
async fn drain(mut body: Incoming) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, |data| data.len() as u64);
        if read > MAX_BODY_BYTES {
            break;
        }
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
    let deadline = Deadline::new();
    let service = Arc::new(Service { site, web, place, deadline, handshake: OnceLock::new() });
    let stream = Watched::new(stream, Arc::clone(&service), stop.clone());
    tokio::select! {
        // What goes wrong here is the client's affair: it went away or sent something that is not HTTP.
        _ = converse(stream, Arc::clone(&service), watcher, stop) => {}
        () = service.deadline.passed() => {}
        () = service.place.closed() => {}
    }
}

/// Shakes hands if need be, and answers requests until the client goes.
async fn converse(
    mut stream: Watched,
    service: Arc<Service>,
    watcher: Watcher,
    stop: CancellationToken,
) -> io::Result<()> {
    let Some(tls) = service.web.current().tls.clone() else {
        return speak(stream, service, watcher).await;
    };
    let handshake = async {
        if stream.first().await?.is_some_and(|first| FIRST_LETTERS.contains(&first)) {
            stream.write_all(PLAIN_ON_TLS).await?;
            stream.shutdown().await?;
            return Ok(None);
        }
        let accept = TlsAcceptor::from(Arc::clone(&tls.server)).accept_with(stream, |session| {
            session.set_buffer_limit(Some(TLS_BUFFER_BYTES));
        });
        let stream = accept.await;
        stream.inspect_err(|error| tracing::debug!(%error, "TLS handshake failed")).map(Some)
    };
    // No answer is lost, so a stop need not wait for it.
    match stop.run_until_cancelled(timeout(HEAD_TIMEOUT, handshake)).await {
        Some(stream) => match stream?? {
            Some(stream) => {
                let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
                // It is done once.
                let _ = service.handshake.set(Handshake { tls, certificates });
                service.deadline.head_may_come();
                speak(stream, service, watcher).await
            }
            None => Ok(()),
        },
        None => Ok(()),
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: Arc<Service>,
    watcher: Watcher,
) -> io::Result<()> {
    let connection = http1::Builder::new()
        // The time for a head is the deadline's: hyper's would begin while nobody asks for anything.
        .header_read_timeout(None)
        // A client that says early that it asks for nothing more is still there for the answer.
        .half_close(true)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(QUEUE_BYTES)
        .serve_connection(TokioIo::new(stream), service_fn(|request| Arc::clone(&service).answer(request)));
    watcher.watch(connection).await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper_util::server::graceful::GracefulShutdown;
    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
    use tokio::sync::{mpsc, watch};
    use tokio::time::{Instant, sleep};

    use super::super::places::Places;
    use super::*;
    use crate::exposition::Sources;
    use crate::exposition::page::Pages;
    use crate::telemetry::self_metrics::SelfMetrics;

    const REQUEST: &[u8] = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n";

    /// The client's end of a connection that is served until what else is returned is dropped.
    fn connect() -> (DuplexStream, GracefulShutdown) {
        let (client, server) = duplex(64 * 1024);
        let (_, sources) = watch::channel(Sources::new());
        let (reload, _) = mpsc::channel(1);
        let started = std::time::Instant::now();
        let pages = Arc::new(Pages::default());
        let site = Site::new("/metrics".to_owned(), sources, pages, SelfMetrics::new(), started, reload);
        let place = Arc::new(Places::new(None)).take();
        let graceful = GracefulShutdown::new();
        let watcher = graceful.watcher();
        let web = Arc::new(WebConfigFile::none());
        tokio::spawn(serve(Box::new(server), Arc::new(site), web, place, watcher, CancellationToken::new()));
        (client, graceful)
    }

    async fn ask(client: &mut DuplexStream) {
        client.write_all(REQUEST).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"healthy\n") {
            answer.push(client.read_u8().await.expect("an answer"));
        }
    }

    /// How long it takes until the connection ends, in whole seconds.
    async fn seconds_to_the_end(client: &mut DuplexStream) -> u64 {
        let start = Instant::now();
        assert!(client.read_u8().await.is_err(), "nothing comes");
        start.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_scrape_every_two_minutes_uses_one_connection() {
        let (mut client, _served) = connect();
        for pause in [9, 0, 10, 15, 60, 119, 120, 1] {
            sleep(Duration::from_secs(pause)).await;
            ask(&mut client).await;
        }
        assert_eq!(seconds_to_the_end(&mut client).await, 125);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_ten_seconds_from_its_first_byte_and_the_first_one_from_the_beginning() {
        let (mut client, _served) = connect();
        assert_eq!(seconds_to_the_end(&mut client).await, 10);
        for (pause, left) in [(4, 6), (9, 1)] {
            let (mut client, _served) = connect();
            sleep(Duration::from_secs(pause)).await;
            client.write_all(&REQUEST[..10]).await.unwrap();
            assert_eq!(seconds_to_the_end(&mut client).await, left);
        }
        for pause in [0, 30, 100] {
            let (mut client, _served) = connect();
            ask(&mut client).await;
            sleep(Duration::from_secs(pause)).await;
            client.write_all(&REQUEST[..10]).await.unwrap();
            sleep(Duration::from_secs(9)).await;
            // Bytes that trickle in win no time.
            client.write_all(&REQUEST[10..20]).await.unwrap();
            assert_eq!(seconds_to_the_end(&mut client).await, 1, "after {pause} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_holds_up_neither_the_answer_nor_the_end() {
        let (mut client, _served) = connect();
        client.write_all(b"POST /-/healthy HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n").await.unwrap();
        let start = Instant::now();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 405 "));
        assert!(start.elapsed() <= Duration::from_secs(20), "{:?}", start.elapsed());
    }
}

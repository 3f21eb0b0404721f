//! The listeners, and how an answer gets onto the wire.

use super::Shared;
use super::call::{Incoming, Route};
use super::reply::{Delivery, Reply};
use super::world::World;
use super::{gateway, iam, metadata, ncr, swr};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream::{self, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::Frame;
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, HeaderValue,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// No call takes a larger body.
const REQUEST_BODY_BYTES: usize = 64 * 1024;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Which service a listener is.
#[derive(Clone, Copy)]
pub(super) enum Service {
    Swr,
    Iam,
    Ncr,
    /// What is on the server itself.
    Local,
}

impl Service {
    fn route(self, method: &str, target: &str) -> Option<Route> {
        match self {
            Self::Swr => swr::route(method, target),
            Self::Iam => iam::route(method, target),
            Self::Ncr => ncr::route(method, target),
            Self::Local => metadata::route(method, target),
        }
    }

    fn no_such_api(self, world: &World) -> Reply {
        match self {
            Self::Swr | Self::Iam => gateway::no_such_api(),
            Self::Ncr => ncr::no_such_api(&world.ncr),
            Self::Local => metadata::not_found(),
        }
    }
}

/// Serves until dropped; its connections go with it.
pub(super) async fn serve(listener: TcpListener, service: Service, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, service, Arc::clone(&shared)));
                }
                // Out of file descriptors, or the caller is gone already: both pass.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, service: Service, shared: Arc<Shared>) {
    // Failing that, answers only take longer.
    let _ = stream.set_nodelay(true);
    let reset = AtomicBool::new(false);
    let handler = service_fn(|request| respond(&shared, service, request, &reset));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), handler);
    // An error here is a caller that went away, or a fault.
    let _ = (&mut connection).await;
    let stream = connection.into_parts().io.into_inner();
    if reset.load(Ordering::Relaxed) {
        // Closing with zero linger time sends RST instead of FIN.
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
}

async fn respond(
    shared: &Shared,
    service: Service,
    request: Request<hyper::body::Incoming>,
    reset: &AtomicBool,
) -> Result<Response<Body>, io::Error> {
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut incoming = Incoming { method: head.method.as_str(), target, headers: &head.headers, body: b"" };
    let route = service.route(incoming.method, target);
    let call = route.as_ref().map(|route| route.call);
    let (latency, log_limit, gzip) = {
        let world = &shared.lock().world;
        let latency = call.and_then(|call| world.latency_of.get(&call)).unwrap_or(&world.latency);
        (*latency, world.log_limit, world.gzip)
    };
    let mut running = shared.recorder.begin(call, &incoming, log_limit);
    let body = Limited::new(body, REQUEST_BODY_BYTES).collect().await.map_err(io::Error::other)?.to_bytes();
    incoming.body = &body;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let (reply, now) = {
        let mut state = shared.lock();
        let state = &mut *state;
        let reply = match &route {
            None => service.no_such_api(&state.world),
            Some(route) => {
                let fault = state.faults.pick(route.call, &route.key);
                let fault = fault.as_ref();
                match service {
                    Service::Swr => swr::answer(&mut state.world, route, &incoming, fault),
                    Service::Iam => iam::answer(&mut state.world, route, &incoming, fault),
                    Service::Ncr => ncr::answer(&mut state.world, route, &incoming, fault),
                    Service::Local => metadata::answer(&mut state.world, route, &incoming, fault),
                }
            }
        };
        (reply, state.world.now())
    };
    match reply.delivery {
        Delivery::Hang => std::future::pending().await,
        Delivery::Reset => {
            running.answered = true;
            reset.store(true, Ordering::Relaxed);
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        _ => {}
    }
    running.answered = true;
    running.status = Some(reply.status);
    let gzip = gzip
        && head.headers.get_all(ACCEPT_ENCODING).iter().any(|value| {
            value.to_str().is_ok_and(|value| value.split([',', ';', ' ']).any(|coding| coding == "gzip"))
        });
    response(reply, now, gzip)
}

fn response(reply: Reply, now: Timestamp, gzip: bool) -> Result<Response<Body>, io::Error> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::from_u16(reply.status).map_err(io::Error::other)?;
    let headers = response.headers_mut();
    if let Ok(date) = DateTimePrinter::new().timestamp_to_rfc9110_string(&now) {
        headers.insert(DATE, HeaderValue::try_from(date).map_err(io::Error::other)?);
    }
    if let Some(content_type) = reply.content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    for (name, value) in reply.headers {
        headers
            .insert(HeaderName::from_static(name), HeaderValue::try_from(value).map_err(io::Error::other)?);
    }
    *response.body_mut() = match reply.delivery {
        Delivery::Truncate => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(reply.body.len()));
            let half = Bytes::from(reply.body);
            let half = half.slice(..half.len() / 2);
            let broken = stream::once(async {
                tokio::task::yield_now().await; // an error at once would keep hyper from sending what it has
                Err(io::ErrorKind::BrokenPipe.into())
            });
            streamed(stream::iter([Ok(half)]).chain(broken))
        }
        Delivery::SlowDrip(pause) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(reply.body.len()));
            let body = Bytes::from(reply.body);
            streamed(stream::iter(0..body.len()).then(move |at| {
                let byte = body.slice(at..=at);
                async move {
                    tokio::time::sleep(pause).await;
                    Ok(byte)
                }
            }))
        }
        Delivery::HugeBody => {
            let piece = Bytes::from(vec![b' '; 1 << 16]);
            streamed(stream::iter((0..1 << 12).map(move |_| Ok(piece.clone()))))
        }
        Delivery::GzipBomb => {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            full(super::bomb::gzip_bomb())
        }
        _ if gzip && !reply.body.is_empty() => {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&reply.body)?;
            full(encoder.finish()?)
        }
        _ => full(reply.body),
    };
    Ok(response)
}

fn full(bytes: Vec<u8>) -> Body {
    Full::from(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn streamed(pieces: impl stream::Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

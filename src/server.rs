//! The HTTP server: listeners, the accept loop with its limits, and the graceful stop.

pub mod address;
mod body;
mod landing;
mod places;
mod ready;
pub mod site;
pub mod status;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
#[cfg(target_os = "linux")]
use socket2::SockRef;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

pub use address::{AddressError, ListenAddress};
use places::{Place, Places, descriptor_limit};
pub use site::{ReloadRequest, Site};

// No flag sets these limits: a scraper is far from them all, and whoever has others in mind sets the limit of
// descriptors (`LimitNOFILE=`, `ulimit -n`), of which clients get half, or puts a proxy before the exporter.

/// A request's head must arrive in this time, and the next request of a connection too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer must be taken in this time: a reader that hangs keeps an old page in memory. Prometheus gives up after
/// 10 s unless told otherwise.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest request head; ours need some hundred bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// So much of a page is given to the system in one call: a whole compressed page of 100,000 series.
const WRITE_BYTES: usize = 1024 * 1024;
/// So much of an answer waits in the system to be sent. Unbounded, it would be up to 4 MB for a reader that stands
/// still, and a thousand of them use up what the whole machine has for TCP: then nobody gets his page, and no poll
/// its answer. With less than this a compressed page of 100,000 series takes several turns and twice the time.
#[cfg(target_os = "linux")]
const MAX_UNSENT_BYTES: u32 = 384 * 1024;
/// Pause after an accept that failed for a reason that nothing here can cure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// Answers under way may end in this time after the stop signal: a second less than the process has for it all.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);
/// Connections that the system holds until they are accepted.
const BACKLOG: i32 = 1024;

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
}

/// A server that listens.
pub struct Server {
    listeners: Vec<TcpListener>,
}

impl Server {
    /// Listens on all `addresses` and logs each with its real port.
    pub async fn bind(addresses: &[ListenAddress]) -> Result<Self, ServeError> {
        let mut listeners = Vec::new();
        for address in addresses {
            let listener = listen(address).await?;
            if let Ok(local) = listener.local_addr() {
                tracing::info!(address = %local, "listening");
            }
            listeners.push(listener);
        }
        Ok(Self { listeners })
    }

    /// The addresses it listens on, with their real ports.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Serves `site` until `stop` is cancelled, and then until the answers under way are out, 4 s at most.
    pub async fn run(self, site: Arc<Site>, stop: CancellationToken) {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Places::new(descriptor_limit()));
        let loops = self.listeners.iter().map(|listener| accept(listener, &site, &places, &graceful));
        stop.run_until_cancelled(join_all(loops)).await;
        drop(self.listeners);
        if timeout(STOP_TIMEOUT, graceful.shutdown()).await.is_err() {
            tracing::warn!("some answers were not taken in time and are cut off");
        }
    }
}

async fn listen(address: &ListenAddress) -> Result<TcpListener, ServeError> {
    let failed = |source| ServeError::Listen { address: address.clone(), source };
    match address {
        ListenAddress::All(port) => {
            let everywhere = open((Ipv6Addr::UNSPECIFIED, *port).into());
            match everywhere {
                // Another error, such as a port in use, is not cured by IPv4.
                Err(error) if lacks_ipv6(&error) => open((Ipv4Addr::UNSPECIFIED, *port).into()),
                other => other,
            }
        }
        ListenAddress::Ip(ip) => open(*ip),
        ListenAddress::Host(host, port) => {
            let found = lookup_host((host.as_str(), *port)).await;
            let found = found.map_err(|source| ServeError::LookUp { address: address.clone(), source })?;
            // The first that works, of `localhost` the IPv4 address, as in other exporters.
            let mut found: Vec<SocketAddr> = found.collect();
            found.sort_by_key(SocketAddr::is_ipv6);
            let mut result = Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
            for ip in found {
                result = open(ip);
                if result.is_ok() {
                    break;
                }
            }
            result
        }
    }
    .map_err(failed)
}

/// Whether an error means that the system knows no IPv6.
fn lacks_ipv6(error: &io::Error) -> bool {
    // EAFNOSUPPORT has no kind of its own; its number is 97 on Linux.
    error.kind() == io::ErrorKind::AddrNotAvailable
        || cfg!(target_os = "linux") && error.raw_os_error() == Some(97)
}

fn open(ip: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(ip), Type::STREAM, Some(Protocol::TCP))?;
    if ip.is_ipv6() {
        socket.set_only_v6(!ip.ip().is_unspecified())?;
    }
    // A restart need not wait until the system forgets the connections of the process before.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&ip.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(StdListener::from(socket))
}

/// Accepts connections for ever.
async fn accept(listener: &TcpListener, site: &Arc<Site>, places: &Arc<Places>, graceful: &GracefulShutdown) {
    let mut failing = false;
    loop {
        places.room().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                failing = false;
                let (site, watcher, place) = (Arc::clone(site), graceful.watcher(), places.take());
                tokio::spawn(async move { serve(stream, &site, watcher, &place).await });
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

/// Bounds what the system holds of an answer that its reader does not take.
fn bound_unsent(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES);
    #[cfg(not(target_os = "linux"))]
    let _ = stream;
}

/// Serves one connection to its end.
async fn serve(stream: TcpStream, site: &Site, watcher: Watcher, place: &Place) {
    // A failure costs some milliseconds or some memory and nothing else.
    let _ = stream.set_nodelay(true);
    bound_unsent(&stream);
    let deadline = Mutex::new(Instant::now() + ANSWER_TIMEOUT);
    let deadline = || deadline.lock().unwrap_or_else(PoisonError::into_inner);
    let service = service_fn(|request| {
        place.asked();
        *deadline() = Instant::now() + ANSWER_TIMEOUT;
        async move { Ok::<_, Infallible>(site.answer(&request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(WRITE_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let late = async {
        loop {
            let end = *deadline();
            if Instant::now() >= end {
                return;
            }
            sleep_until(end).await;
        }
    };
    tokio::select! {
        // What goes wrong here is the client's affair: it went away or sent something that is not HTTP.
        _ = watcher.watch(connection) => {}
        () = late => {}
        () = place.closed() => {}
    }
}

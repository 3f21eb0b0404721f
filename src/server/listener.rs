//! Sockets to accept connections from: opened here, or handed over by systemd.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};

use listenfd::ListenFd;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, lookup_host};

use super::ServeError;
use super::address::ListenAddress;

/// Connections that the system holds until they are accepted.
const BACKLOG: i32 = 1024;
/// So much of an answer waits in the system to be sent. Unbounded, it would be up to 4 MB for a reader that stands
/// still, and a thousand of them use up what the whole machine has for TCP: then nobody gets his page, and no poll
/// its answer. With less than this a compressed page of 100,000 series takes several turns and twice the time.
#[cfg(target_os = "linux")]
const MAX_UNSENT_BYTES: u32 = 384 * 1024;

/// A connection of any kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A socket that listens.
pub(super) enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A UNIX socket, which only systemd hands over.
    Unix(UnixListener),
}

impl Listener {
    /// Waits for the next connection.
    pub(super) async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // A failure costs some milliseconds or some memory and nothing else.
                let _ = stream.set_nodelay(true);
                bound_unsent(&stream);
                Ok(Box::new(stream))
            }
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }

    /// The address it listens on, unless it is a UNIX socket.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Where it listens, for people.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Tcp(listener) => {
                listener.local_addr().map(|address| address.to_string()).unwrap_or_default()
            }
            Self::Unix(listener) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                path.map_or_else(|| "unix".to_owned(), |path| format!("unix:{}", path.display()))
            }
        }
    }
}

/// Bounds what the system holds of an answer that its reader does not take.
fn bound_unsent(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES);
    #[cfg(not(target_os = "linux"))]
    let _ = stream;
}

/// Listens on an address.
pub(super) async fn listen(address: &ListenAddress) -> Result<Listener, ServeError> {
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
    .map(Listener::Tcp)
    .map_err(failed)
}

/// The sockets that systemd opened for this process.
pub(super) fn inherited() -> Result<Vec<Listener>, ServeError> {
    let mut sockets = ListenFd::from_env();
    let mut listeners = Vec::new();
    for number in 0..sockets.len() {
        listeners.push(inherit(&mut sockets, number).map_err(ServeError::Inherit)?);
    }
    if listeners.is_empty() {
        return Err(ServeError::NothingInherited);
    }
    Ok(listeners)
}

fn inherit(sockets: &mut ListenFd, number: usize) -> io::Result<Listener> {
    // A socket that is not of the kind asked for is an error, and can be asked for again.
    if let Ok(Some(listener)) = sockets.take_unix_listener(number) {
        listener.set_nonblocking(true)?;
        return UnixListener::from_std(listener).map(Listener::Unix);
    }
    let listener = sockets.take_tcp_listener(number)?;
    let listener = listener.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener).map(Listener::Tcp)
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

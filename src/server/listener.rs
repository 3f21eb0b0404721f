//! Sockets to accept connections from: opened here, or handed over by systemd.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener as StdListener};
use std::os::fd::AsFd;
use std::time::Duration;

use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream, lookup_host};

use super::ServeError;
use super::address::ListenAddress;

/// Connections that the system holds until they are accepted.
const BACKLOG: i32 = 1024;
/// The system takes more of an answer when it holds less than this that it could not send yet. On a line it sends as
/// much at a time as without this bound; a reader that stands still would have it hold 4 MB, and a thousand of them
/// use up what the whole machine has for TCP: then nobody gets his page, and no poll its answer.
#[cfg(target_os = "linux")]
const MAX_UNSENT_BYTES: u32 = 16 * 1024;
/// The system forgets a connection whose client is silent while there is something to send, when this is over.
#[cfg(target_os = "linux")]
const SILENCE_TIMEOUT: Duration = Duration::from_mins(1);

/// The same for UNIX sockets, which know no other bound; the system doubles it.
const UNIX_BUFFER_BYTES: usize = 16 * 1024;

/// A connection of any kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Has the system throw away what it holds of the answer when the connection is dropped.
    fn abandon(&self) {}
}

impl Stream for TcpStream {
    fn abandon(&self) {
        // A failure means that there is nothing left to throw away.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Stream for UnixStream {}

#[cfg(test)]
impl Stream for tokio::io::DuplexStream {}

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
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let _ = SockRef::from(&stream).set_send_buffer_size(UNIX_BUFFER_BYTES);
                Ok(Box::new(stream))
            }
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

/// Bounds what the system holds of an answer that its reader does not take, and for how long.
fn bound_unsent(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    {
        let socket = SockRef::from(stream);
        let _ = socket.set_tcp_notsent_lowat(MAX_UNSENT_BYTES);
        let _ = socket.set_tcp_user_timeout(Some(SILENCE_TIMEOUT));
    }
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
        ListenAddress::Zone(ip, zone, port) => match interface(zone).await {
            Ok(number) => open(SocketAddrV6::new(*ip, *port, 0, number).into()).map_err(|error| {
                // ENODEV has no kind of its own: any number is taken for an interface until it is used.
                if cfg!(target_os = "linux") && error.raw_os_error() == Some(19) {
                    no_interface(zone)
                } else {
                    error
                }
            }),
            Err(error) => Err(error),
        },
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

/// The number of the interface that a zone means.
async fn interface(zone: &str) -> io::Result<u32> {
    // The system's resolver knows the interfaces, though only with addresses that need one.
    let any = format!("fe80::%{zone}");
    let found = lookup_host((any.as_str(), 0)).await;
    let found = found.ok().and_then(|mut found| {
        found.find_map(|address| match address {
            SocketAddr::V6(address) if address.scope_id() != 0 => Some(address.scope_id()),
            _ => None,
        })
    });
    found.ok_or_else(|| no_interface(zone))
}

fn no_interface(zone: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no network interface {zone}"))
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
        must_listen(&listener)?;
        listener.set_nonblocking(true)?;
        return UnixListener::from_std(listener).map(Listener::Unix);
    }
    if let Ok(Some(listener)) = sockets.take_tcp_listener(number) {
        must_listen(&listener)?;
        listener.set_nonblocking(true)?;
        return TcpListener::from_std(listener).map(Listener::Tcp);
    }
    Err(not_to_listen_on(
        "it is no stream socket of TCP or UNIX; the socket unit must say ListenStream= alone",
    ))
}

/// Refuses a socket that would be listened on in vain.
fn must_listen<T: AsFd>(socket: &T) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if socket.is_listener()? {
        return Ok(());
    }
    Err(not_to_listen_on(if socket.peer_addr().is_ok() {
        "it is the connection of one client; the socket unit must say Accept=no"
    } else {
        "it does not listen; the socket unit must say ListenStream= and Accept=no, and who hands it over by hand calls \
         listen() before"
    }))
}

fn not_to_listen_on(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
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

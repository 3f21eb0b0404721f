//! Addresses to listen on.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// An address to listen on: `:PORT`, `host:PORT`, `[v6]:PORT` or `[v6%zone]:PORT`. Port 0 means a free one.
///
/// Brackets may be around any IP address, so that `[$(POD_IP)]:PORT` does whatever the pod's address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// All interfaces, IPv6 and IPv4, or IPv4 alone where there is no IPv6.
    All(u16),
    /// One IP address.
    Ip(SocketAddr),
    /// An IPv6 address on one interface, which its name or its number tells.
    Zone(Ipv6Addr, String, u16),
    /// A host name to look up.
    Host(String, u16),
}

/// Why a text is no [`ListenAddress`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no port.
    #[error("the port is missing: use :PORT, host:PORT or [IPv6]:PORT")]
    NoPort,
    /// The port is none.
    #[error("the port {0:?} is not a number from 0 to 65535")]
    Port(String),
    /// The host is neither a name nor an address.
    #[error("{0:?} is not a host name or an IP address")]
    Host(String),
    /// The zone is no name of an interface.
    #[error("{0:?} is not an interface: use [IPv6%eth0]:PORT")]
    Zone(String),
    /// An IPv6 address without brackets leaves open where the port begins.
    #[error("an IPv6 address needs brackets: [IPv6]:PORT")]
    Brackets,
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
        if host.starts_with('[') && !host.ends_with(']') {
            return Err(AddressError::NoPort);
        }
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if bracketed.is_none() && host.contains(':') {
            return Err(AddressError::Brackets);
        }
        // `parse` would take a sign.
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or_else(|| AddressError::Port(port.to_owned()))?;
        if let Some(host) = bracketed {
            return bracketed_ip(host, port);
        }
        if host.is_empty() {
            return Ok(Self::All(port));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let looks_like_ip = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let name = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if looks_like_ip || !name {
            return Err(AddressError::Host(host.to_owned()));
        }
        Ok(Self::Host(host.to_owned(), port))
    }
}

fn bracketed_ip(host: &str, port: u16) -> Result<ListenAddress, AddressError> {
    let (ip, zone) = host.split_once('%').map_or((host, None), |(ip, zone)| (ip, Some(zone)));
    let ip: IpAddr = ip.parse().map_err(|_| AddressError::Host(host.to_owned()))?;
    // A system's IPv6 socket takes no IPv4 address in the form of IPv6 when it is to take IPv6 alone.
    match (ip.to_canonical(), zone) {
        (ip, None) => Ok(ListenAddress::Ip(SocketAddr::from((ip, port)))),
        (IpAddr::V6(ip), Some(zone)) => {
            let name = |b: u8| b.is_ascii_graphic() && !matches!(b, b'%' | b'/' | b':' | b'[' | b']');
            if zone.is_empty() || !zone.bytes().all(name) {
                return Err(AddressError::Zone(zone.to_owned()));
            }
            Ok(ListenAddress::Zone(ip, zone.to_owned(), port))
        }
        (IpAddr::V4(_), Some(_)) => Err(AddressError::Host(host.to_owned())),
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(port) => write!(f, ":{port}"),
            Self::Ip(address) => address.fmt(f),
            Self::Zone(ip, zone, port) => write!(f, "[{ip}%{zone}]:{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_all_forms_and_prints_them_as_they_were() {
        for (text, address) in [
            (":10190", ListenAddress::All(10190)),
            ("127.0.0.1:0", ListenAddress::Ip("127.0.0.1:0".parse().unwrap())),
            ("[::1]:80", ListenAddress::Ip("[::1]:80".parse().unwrap())),
            ("localhost:65535", ListenAddress::Host("localhost".to_owned(), 65535)),
            ("my-host_1.example:1", ListenAddress::Host("my-host_1.example".to_owned(), 1)),
        ] {
            assert_eq!(text.parse(), Ok(address));
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn brackets_may_be_around_every_address() {
        let ip = |text: &str| ListenAddress::Ip(text.parse().unwrap());
        let zone = |ip: &str, zone: &str| ListenAddress::Zone(ip.parse().unwrap(), zone.to_owned(), 80);
        for (text, address) in [
            ("[127.0.0.1]:80", ip("127.0.0.1:80")),
            ("[0.0.0.0]:80", ip("0.0.0.0:80")),
            ("[10.1.2.3]:80", ip("10.1.2.3:80")),
            ("[::]:80", ip("[::]:80")),
            ("[fd00::1]:80", ip("[fd00::1]:80")),
            ("[::ffff:10.1.2.3]:80", ip("10.1.2.3:80")),
            ("[::ffff:a01:203]:80", ip("10.1.2.3:80")),
            ("[::ffff:0.0.0.0]:80", ip("0.0.0.0:80")),
            ("[fe80::1%eth0]:80", zone("fe80::1", "eth0")),
            ("[fe80::1%2]:80", zone("fe80::1", "2")),
            ("[fe80::1%br-0.7@x]:80", zone("fe80::1", "br-0.7@x")),
        ] {
            assert_eq!(text.parse(), Ok(address), "{text}");
        }
        assert_eq!("[fe80::1%eth0]:80".parse::<ListenAddress>().unwrap().to_string(), "[fe80::1%eth0]:80");
    }

    #[test]
    fn refuses_everything_else_with_the_reason() {
        let port = |port: &str| AddressError::Port(port.to_owned());
        let host = |host: &str| AddressError::Host(host.to_owned());
        for (text, error) in [
            ("", AddressError::NoPort),
            ("10190", AddressError::NoPort),
            ("[::1]", AddressError::NoPort),
            (":", port("")),
            (":+1", port("+1")),
            (":65536", port("65536")),
            ("localhost:http", port("http")),
            ("::1:80", AddressError::Brackets),
            ("[localhost]:80", host("localhost")),
            ("[]:80", host("")),
            ("[fe80::1%]:80", AddressError::Zone(String::new())),
            ("[fe80::1%a%b]:80", AddressError::Zone("a%b".to_owned())),
            ("[10.0.0.1%eth0]:80", host("10.0.0.1%eth0")),
            ("[localhost%eth0]:80", host("localhost%eth0")),
            ("[256.0.0.1]:80", host("256.0.0.1")),
            ("256.0.0.1:80", host("256.0.0.1")),
            ("http//a:80", host("http//a")),
            ("a b:80", host("a b")),
        ] {
            assert_eq!(text.parse::<ListenAddress>(), Err(error), "{text}");
        }
    }
}

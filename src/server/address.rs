//! Addresses to listen on.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// An address to listen on: `:PORT`, `host:PORT` or `[v6]:PORT`. Port 0 means a free one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// All interfaces, IPv6 and IPv4, or IPv4 alone where there is no IPv6.
    All(u16),
    /// One IP address.
    Ip(SocketAddr),
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
            let ip: Ipv6Addr = host.parse().map_err(|_| AddressError::Host(host.to_owned()))?;
            return Ok(Self::Ip(SocketAddr::from((ip, port))));
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

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(port) => write!(f, ":{port}"),
            Self::Ip(address) => address.fmt(f),
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
            ("256.0.0.1:80", host("256.0.0.1")),
            ("http//a:80", host("http//a")),
            ("a b:80", host("a b")),
        ] {
            assert_eq!(text.parse::<ListenAddress>(), Err(error), "{text}");
        }
    }
}

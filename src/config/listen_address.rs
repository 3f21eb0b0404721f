//! Where to listen.

use std::fmt;
use std::str::FromStr;

/// An address to listen on; port 0 stands for a free one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// `:PORT`: every interface, IPv6 and IPv4, or IPv4 alone where there is no IPv6.
    AllInterfaces {
        /// TCP port.
        port: u16,
    },
    /// `host:PORT` or `[v6]:PORT`.
    Host {
        /// A name or an IP address, the latter without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
}

impl FromStr for ListenAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or("must end with a port, such as :10190")?;
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = port
            .parse()
            .ok()
            .filter(|_| digits)
            .ok_or("must end with a port from 0 to 65535, such as :10190")?;
        if host.is_empty() {
            return Ok(Self::AllInterfaces { port });
        }
        if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            // A scope, such as %eth0, may follow the address.
            let plain = address.split('%').next().unwrap_or_default();
            plain
                .parse::<std::net::Ipv6Addr>()
                .map_err(|_| "must have an IPv6 address between the brackets")?;
            return Ok(Self::Host { host: address.to_owned(), port });
        }
        if host.contains(':') {
            return Err("an IPv6 address must stand in brackets, such as [::1]:10190");
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if !host.bytes().all(allowed) {
            return Err("must be :PORT, host:PORT or [IPv6]:PORT");
        }
        Ok(Self::Host { host: host.to_owned(), port })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllInterfaces { port } => write!(f, ":{port}"),
            Self::Host { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_alike() {
        for text in [":10190", ":0", "127.0.0.1:80", "localhost:65535", "[::1]:10190", "[fe80::1%eth0]:1"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in
            ["", ":", "10190", "host", "host:", ":65536", ":+1", ":-1", "::1:80", "[::1]", "[a]:1", "a/b:1"]
        {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }
}

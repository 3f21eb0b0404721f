//! Through which proxy the way to an address leads, decided address by address.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use url::{Host, Url};

use super::address::{self, is_local};
use super::is_unreadable;

/// The proxies of a source. They may hold a user and a password, which is why `Debug` leaves these out.
#[derive(Clone, Default, PartialEq)]
pub struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    exceptions: Vec<Exception>,
}

/// An entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq)]
struct Exception {
    hosts: Hosts,
    /// `None` = every port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq)]
enum Hosts {
    All,
    Network(IpNet),
    /// Names that end so, from a dot on; `itself` = what follows the dot, too.
    Domain {
        suffix: String,
        itself: bool,
    },
}

impl Proxies {
    /// One proxy for all addresses.
    pub(super) fn all(proxy: Url) -> Self {
        Self { http: Some(proxy.clone()), https: Some(proxy), exceptions: Vec::new() }
    }

    /// What `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say, or the same in lower case, as Go reads them:
    /// <https://pkg.go.dev/golang.org/x/net/http/httpproxy>
    ///
    /// Errors: one of them cannot be used; the message does not repeat it.
    pub(super) fn of_environment(environment: &BTreeMap<String, String>) -> Result<Self, String> {
        let set = |name: &str| {
            let names = [name.to_owned(), name.to_ascii_lowercase()];
            let mut found =
                names.into_iter().filter_map(|name| Some((environment.get(&name)?.trim().to_owned(), name)));
            match found.find(|(value, _)| !value.is_empty()) {
                Some((value, name)) if is_unreadable(&value) => {
                    Err(format!("{name} is not UTF-8; correct or remove it, or set proxy_url"))
                }
                found => Ok(found),
            }
        };
        let proxy = |name| {
            match set(name)? {
            Some((value, name)) => proxy(&value).map(Some).ok_or_else(|| {
                format!("{name} is no address such as http://proxy.example.com:3128; correct or remove it, or set proxy_url")
            }),
            None => Ok(None),
        }
        };
        let exceptions = set("NO_PROXY")?.map_or_else(Vec::new, |(value, _)| exceptions(&value));
        Ok(Self { http: proxy("HTTP_PROXY")?, https: proxy("HTTPS_PROXY")?, exceptions })
    }

    /// The proxy for an address; none for this machine and what is on its own network link.
    pub fn proxy_for(&self, url: &Url) -> Option<&Url> {
        if is_local(url) || self.exceptions.iter().any(|exception| exception.holds(url)) {
            return None;
        }
        if url.scheme() == "https" { self.https.as_ref() } else { self.http.as_ref() }
    }
}

/// The address of a proxy, which need not begin with `http://`.
fn proxy(text: &str) -> Option<Url> {
    let url = if text.contains("://") {
        address::parse_http(text)
    } else {
        address::parse_http(&format!("http://{text}"))
    };
    url.ok()
}

fn exceptions(text: &str) -> Vec<Exception> {
    let entries = text.split(',').map(|entry| entry.trim().to_ascii_lowercase());
    entries.filter_map(|entry| exception(&entry)).collect()
}

fn exception(entry: &str) -> Option<Exception> {
    let every_port = |hosts| Some(Exception { hosts, port: None });
    if entry == "*" {
        return every_port(Hosts::All);
    }
    if let Ok(network) = entry.parse::<IpNet>() {
        return every_port(Hosts::Network(network));
    }
    let address = |text: &str| {
        let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        text.parse().ok().map(|ip: IpAddr| Hosts::Network(ip.to_canonical().into()))
    };
    if let Some(hosts) = address(entry) {
        return every_port(hosts);
    }
    let (name, port) = match entry.rsplit_once(':') {
        Some((name, port)) => (name, Some(port.parse().ok()?)),
        None => (entry, None),
    };
    let hosts = address(name).or_else(|| {
        let name = if name.starts_with("*.") { &name[1..] } else { name }.trim_end_matches('.');
        let itself = !name.starts_with('.');
        let suffix = if itself { format!(".{name}") } else { name.to_owned() };
        (suffix.len() > 1).then_some(Hosts::Domain { suffix, itself })
    })?;
    Some(Exception { hosts, port })
}

impl Exception {
    fn holds(&self, url: &Url) -> bool {
        let holds = match (&self.hosts, url.host()) {
            (Hosts::All, _) => true,
            (Hosts::Network(network), Some(Host::Ipv4(ip))) => network.contains(&IpAddr::from(ip)),
            (Hosts::Network(network), Some(Host::Ipv6(ip))) => {
                network.contains(&IpAddr::from(ip).to_canonical())
            }
            (Hosts::Domain { suffix, itself }, Some(Host::Domain(name))) => {
                let name = name.trim_end_matches('.');
                name.ends_with(suffix) || (*itself && name == &suffix[1..])
            }
            _ => false,
        };
        holds && self.port.is_none_or(|port| url.port_or_known_default() == Some(port))
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |proxy: &Option<Url>| proxy.as_ref().and_then(Url::host_str).map(str::to_owned);
        f.debug_struct("Proxies")
            .field("http_host", &host(&self.http))
            .field("https_host", &host(&self.https))
            .field("exceptions", &self.exceptions)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Proxies::of_environment(&variables.collect())
    }

    /// Whether an address is reached through the proxy with this `NO_PROXY`.
    fn proxied(no_proxy: &str, url: &str) -> bool {
        let proxies = proxies(&[("HTTP_PROXY", "p"), ("HTTPS_PROXY", "p"), ("NO_PROXY", no_proxy)]).unwrap();
        proxies.proxy_for(&url.parse().unwrap()).is_some()
    }

    #[test]
    fn no_proxy_is_read_as_go_reads_it() {
        // From the tests of golang.org/x/net/http/httpproxy, and the forms that its documentation names.
        const LIST: &str = "foo.com, .barbaz.net, *.qux.org, 192.168.1.1, 192.168.1.2:81, 192.168.1.3:80, 10.0.0.0/30, \
                            2001:db8::52:0:1, [2001:db8::52:0:2]:443, [2001:db8::52:0:3]:80, 2002:db8:a::45/64, host:8080";
        for (url, expected) in [
            ("http://foo.com", false),
            ("http://foo.com.", false),
            ("http://FOO.com:3", false),
            ("http://sub.foo.com", false),
            ("http://notfoo.com", true),
            ("http://foo.com.example", true),
            ("http://barbaz.net", true),
            ("http://sub.barbaz.net", false),
            ("http://a.b.barbaz.net:9", false),
            ("http://qux.org", true),
            ("http://a.qux.org", false),
            ("http://aqux.org", true),
            ("http://192.168.1.1", false),
            ("http://192.168.1.1:8080", false),
            ("http://192.168.1.2", true),
            ("http://192.168.1.2:81", false),
            ("http://192.168.1.3", false),
            ("https://192.168.1.3", true),
            ("http://192.168.1.4", true),
            ("http://10.0.0.2", false),
            ("http://10.0.0.4", true),
            ("http://[::ffff:10.0.0.2]", false),
            ("http://[2001:db8::52:0:1]", false),
            ("https://[2001:db8::52:0:2]", false),
            ("http://[2001:db8::52:0:2]", true),
            ("http://[2001:db8::52:0:3]", false),
            ("http://[2002:db8:a::123]", false),
            ("http://[2002:db8:b::123]", true),
            ("http://host:8080", false),
            ("http://host", true),
            ("http://a.host:8080", false),
        ] {
            assert_eq!(proxied(LIST, url), expected, "{url}");
        }
        for all in ["*", "a, *"] {
            assert!(!proxied(all, "https://example.com") && !proxied(all, "http://192.0.2.1"), "{all}");
        }
        for nothing in ["", ",", " , :80, .", "example.com:port", "10.0.0.0/99", "*."] {
            assert!(
                proxied(nothing, "http://example.com") && proxied(nothing, "http://192.0.2.1"),
                "{nothing}"
            );
        }
    }

    #[test]
    fn what_is_on_this_machine_or_its_link_uses_no_proxy() {
        for url in [
            "http://localhost:1",
            "http://LocalHost",
            "http://localhost.",
            "http://registry.localhost",
            "http://127.0.0.1",
            "https://127.9.9.9:1",
            "http://[::1]",
            "http://[::ffff:127.0.0.1]",
            "http://169.254.169.254",
            "http://[::ffff:169.254.169.254]",
            "http://[fe80::1]",
        ] {
            assert!(!proxied("", url), "{url}");
            let all = Proxies::all("http://p".parse().unwrap());
            assert_eq!(all.proxy_for(&url.parse().unwrap()), None, "{url}");
        }
        for url in ["http://localhost.example", "http://notlocalhost", "http://128.0.0.1", "http://[fd00::1]"]
        {
            assert!(proxied("", url), "{url}");
        }
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        let of = |variables: &[(&str, &str)], url: &str| {
            let proxy = proxies(variables).unwrap().proxy_for(&url.parse().unwrap()).cloned();
            proxy.map(String::from)
        };
        let both = [("HTTP_PROXY", "a:1"), ("HTTPS_PROXY", "https://u:p@b:2"), ("http_proxy", "c:3")];
        assert_eq!(of(&both, "http://x").as_deref(), Some("http://a:1/"));
        assert_eq!(of(&both, "https://x").as_deref(), Some("https://u:p@b:2/"));
        let lower = [("http_proxy", "http://c:3"), ("HTTP_PROXY", ""), ("no_proxy", "y")];
        assert_eq!(of(&lower, "http://x").as_deref(), Some("http://c:3/"));
        assert_eq!((of(&lower, "http://y"), of(&lower, "https://x")), (None, None));
    }

    #[test]
    fn a_variable_that_cannot_be_used_is_named_and_not_shown() {
        for (name, value) in [
            ("HTTP_PROXY", "socks5://u:hunter2@p"),
            ("https_proxy", "http://u:hunter2@"),
            ("HTTPS_PROXY", "hunter2 is wrong"),
            ("NO_PROXY", "hunter2\u{fffd}"),
        ] {
            let message = proxies(&[(name, value)]).unwrap_err();
            assert!(message.starts_with(name) && !message.contains("hunter2"), "{message}");
        }
        let shown = format!("{:?}", proxies(&[("HTTP_PROXY", "http://u:hunter2@p")]).unwrap());
        assert!(shown.contains("\"p\"") && !shown.contains("hunter2"), "{shown}");
    }
}

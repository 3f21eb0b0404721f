//! Addresses: which are accepted, which are the clouds' own, and how to connect to them.

use std::net::IpAddr;

use url::{Host, Url};

use super::credentials::FoundAddress;
use super::validate::Surroundings;
use super::value::Table;
use super::{ConnectionConfig, Proxies, Site, TlsFiles, keys};

/// Reads the base address in `key`; what was `found` with the credential if it is not set, and else `default`. The
/// message of a problem never repeats the address.
pub(super) fn base_address(
    table: &Table,
    key: &str,
    found: Option<&FoundAddress>,
    default: &str,
    allow_http: bool,
) -> Option<Url> {
    let (text, origin) = match found {
        _ if table.has(key) => (table.text(key)?, String::new()),
        Some(found) => (found.address.as_str(), format!("the address in {} ", found.origin)),
        None => (default, String::new()),
    };
    let url = parse(text, allow_http);
    url.inspect_err(|message| table.problem(key, format!("{origin}{message}"))).ok()
}

/// Reads a base address: HTTP or HTTPS, nothing but scheme, host, port and path.
pub(super) fn parse(text: &str, allow_http: bool) -> Result<Url, &'static str> {
    let mut url = parse_http(text)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user or password; set credentials in the section auth");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not contain ? or #; leave out the query and the fragment");
    }
    if url.scheme() == "http" && !allow_http && !is_loopback(&url) {
        return Err(
            "must begin with https://, for http:// would send credentials unprotected; or set allow_http = true for \
                    this source (a loopback address needs neither)",
        );
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// How to connect to the source's addresses.
pub(super) fn connection(source: &Table, surroundings: &Surroundings) -> ConnectionConfig {
    let directory = surroundings.directory;
    let tls = source.table("tls", keys::TLS);
    let [authorities, certificate, key] =
        ["ca_file", "cert_file", "key_file"].map(|key| tls.text(key).map(|path| directory.join(path)));
    let files = TlsFiles::read(authorities, certificate, key, |key, message| tls.problem(key, message));
    match (tls.has("cert_file"), tls.has("key_file")) {
        (true, false) => tls.problem("key_file", "is missing; cert_file and key_file go together"),
        (false, true) => tls.problem("cert_file", "is missing; cert_file and key_file go together"),
        _ => {}
    }
    let proxies = match source.text("proxy_url") {
        Some(text) => parse_http(text).map(Proxies::all).map_err(str::to_owned),
        None => Proxies::of_environment(surroundings.environment),
    };
    let proxies = proxies.inspect_err(|message| source.problem("proxy_url", message)).unwrap_or_default();
    ConnectionConfig { tls: files, proxies }
}

/// The APIs of Huawei Cloud in `region`, as the vendor's SDK knows them: SWR, IAM.
/// <https://github.com/huaweicloud/huaweicloud-sdk-python-v3>
pub(super) fn swr_defaults(region: &str) -> (String, String) {
    let domain = domain(region);
    (format!("https://swr-api.{region}.{domain}"), format!("https://iam.{region}.{domain}"))
}

/// Huawei Cloud's STS in `region`.
pub(super) fn sts_default(region: &str) -> String {
    format!("https://sts.{region}.{}", domain(region))
}

/// The only region outside of .com is in Europe.
fn domain(region: &str) -> &'static str {
    if region == "eu-west-101" { "myhuaweicloud.eu" } else { "myhuaweicloud.com" }
}

/// A base address without the slash that an empty path has.
pub(super) fn shown(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

/// The region goes into host names, so it must be one label of them.
pub(super) fn is_region(region: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&region.len())
        && region.bytes().all(allowed)
        && !region.starts_with('-')
        && !region.ends_with('-')
}

/// The regions of a site of NAVER Cloud Platform with the address of their API.
/// <https://api.ncloud-docs.com/docs/en/compute-containerregistry>
pub(super) fn ncr_regions(site: Site) -> &'static [(&'static str, &'static str)] {
    match site {
        Site::Public => &[
            ("KR", "https://ncr.apigw.ntruss.com/ncr/api/v2"),
            ("SGN", "https://ncr.apigw.ntruss.com/ncr/sgn-api/v2"),
            ("JPN", "https://ncr.apigw.ntruss.com/ncr/jpn-api/v2"),
        ],
        Site::Government => &[
            ("KR", "https://gov-ncr.apigw.gov-ntruss.com/ncr/kr/v2"),
            ("KRS", "https://gov-ncr.apigw.gov-ntruss.com/ncr/krs/v2"),
        ],
        Site::Financial => &[("FKR", "https://ncr.apigw.fin-ntruss.com/ncr/api/v2")],
    }
}

/// Reads an address of HTTP or HTTPS, whatever else is in it.
pub(super) fn parse_http(text: &str) -> Result<Url, &'static str> {
    const FORM: &str = "must be an address such as https://host or http://host:port/path";
    let url = Url::parse(text).map_err(|_| FORM)?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() { Ok(url) } else { Err(FORM) }
}

/// Whether the host is this machine. `localhost` and all names below it are nobody else's: RFC 6761, 6.3.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        Some(Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name == "localhost" || name.ends_with(".localhost")
        }
        None => false,
    }
}

/// Whether the host is loopback or link-local: the machine, or what stands behind its network card.
pub(super) fn is_local(url: &Url) -> bool {
    is_loopback(url)
        || match url.host() {
            Some(Host::Ipv4(ip)) => ip.is_link_local(),
            Some(Host::Ipv6(ip)) => match ip.to_canonical() {
                IpAddr::V4(ip) => ip.is_link_local(),
                IpAddr::V6(ip) => ip.is_unicast_link_local(),
            },
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_for_loopback_only() {
        for address in [
            "http://127.0.0.1:8080",
            "http://127.9.9.9",
            "http://[::1]:1/a",
            "http://[::ffff:127.0.0.1]:1",
            "http://localhost:3",
            "http://localhost.:3",
            "http://swr.localhost",
        ] {
            assert!(parse(address, false).is_ok(), "{address}");
        }
        for address in [
            "http://10.0.0.1",
            "http://169.254.1.1",
            "http://127.0.0.1.example.com",
            "http://localhost.example.com",
            "http://notlocalhost",
        ] {
            assert!(parse(address, false).is_err(), "{address}");
            assert!(parse(address, true).is_ok(), "{address}");
        }
    }

    #[test]
    fn slashes_at_the_end_are_dropped() {
        assert_eq!(parse("https://a/ncr/api/v2//", false).unwrap().as_str(), "https://a/ncr/api/v2");
        assert_eq!(parse("https://a", false).unwrap().as_str(), "https://a/");
    }

    #[test]
    fn only_plain_http_addresses_are_accepted() {
        for address in
            ["a", "ftp://a", "https://", "https://u:p@a", "https://u@a", "https://a?b", "https://a#b"]
        {
            assert!(parse(address, true).is_err(), "{address}");
        }
    }

    #[test]
    fn a_region_is_one_label_of_a_host_name() {
        assert!(is_region("cn-north-4"));
        for region in ["", "a.b", "a/b", "a@b", "A", "-a", "a-", "a b", "a#"] {
            assert!(!is_region(region), "{region}");
        }
    }

    #[test]
    fn europe_is_under_its_own_domain() {
        assert_eq!(swr_defaults("eu-west-101").1, "https://iam.eu-west-101.myhuaweicloud.eu");
        assert_eq!(swr_defaults("cn-north-4").0, "https://swr-api.cn-north-4.myhuaweicloud.com");
    }
}

//! How to reach an API: certificates, proxies, redirects.

use std::error::Error;
use std::io;
use std::iter::successors;
use std::net::ToSocketAddrs as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, ClientBuilder, Identity, Proxy, redirect};
use secrecy::zeroize::Zeroizing;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use url::Url;

use super::error::{Cause, ProxyRefusal};
use crate::config::{ConnectionConfig, certificate, is_loopback};

/// A name that cannot be resolved or a host that does not answer is known long before `request_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client for one source, all of whose addresses are `endpoints`.
///
/// Redirects are not followed: they would carry the vendors' own credential headers to another host. Where all addresses
/// are on this machine and plain HTTP, no certificate authorities are needed.
///
/// Errors: the TLS library does not take what the files hold, or the system has no authorities and none are given.
pub fn client(config: &ConnectionConfig, endpoints: &[&Url]) -> io::Result<Client> {
    let mut builder = builder().connect_timeout(CONNECT_TIMEOUT).pool_idle_timeout(Duration::from_secs(90));
    let proxies = config.proxies.clone();
    builder = builder.proxy(Proxy::custom(move |url| proxies.proxy_for(url).cloned()));
    if endpoints.iter().all(|url| is_loopback(url) && url.scheme() == "http") {
        builder = builder.tls_certs_only([]);
    }
    if let Some(file) = &config.tls.authorities {
        let certificates = Certificate::from_pem_bundle(file.content()).map_err(io::Error::other)?;
        builder = builder.tls_certs_only(certificates);
    }
    if let Some((certificate, key)) = &config.tls.client {
        let pem = Zeroizing::new([certificate.content(), b"\n", key.content()].concat());
        builder = builder.identity(Identity::from_pem(&pem).map_err(io::Error::other)?);
    }
    builder.build().map_err(io::Error::other)
}

/// A client for a service of this machine or of what it runs on, such as a metadata service: no proxy knows the way to
/// it, and no connection is kept.
///
/// Errors: `endpoint` has HTTPS, and the system has no certificate authorities.
pub fn direct_client(endpoint: &Url) -> io::Result<Client> {
    let mut builder = builder().pool_max_idle_per_host(0);
    if endpoint.scheme() == "http" {
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(io::Error::other)
}

/// Most headers of an answer: the library stops at 100, which chains of proxies reach.
const MOST_HEADERS: usize = 1000;

/// What all clients have in common. The proxies of the environment stand in the configuration.
fn builder() -> ClientBuilder {
    // The library has no default; a second installation is refused, which is as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        // Servers and proxies of all ages stand in between: what can be read is read.
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_max_headers(MOST_HEADERS)
        // Unpacked by the caller: the library knows one of its names only, and hides how the body was framed.
        .default_headers(HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))]))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .dns_resolver(Names)
        .user_agent(concat!("container-registry-exporter/", env!("CARGO_PKG_VERSION")))
}

/// Looks names up as the system does, but not all at one time: a name server that does not answer keeps each look-up
/// in a thread for up to half a minute, whether or not somebody still waits for it, and the threads are not for it alone.
struct Names;

/// Look-ups under way at one time. The runtime has 512 threads for all that blocks.
static LOOK_UPS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(64)));

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let turn = Arc::clone(&LOOK_UPS).acquire_owned().await?;
            let found = spawn_blocking(move || {
                let _turn = turn;
                (name.as_str(), 0).to_socket_addrs()
            });
            Ok(Box::new(found.await??) as Addrs)
        })
    }
}

/// What a failed exchange means.
pub fn cause(error: reqwest::Error) -> Cause {
    // The address stands in the error of the call; here it would come with its query.
    let error = error.without_url();
    if error.is_timeout() {
        return Cause::Timeout(format!("the time to connect ({CONNECT_TIMEOUT:.1?})"));
    }
    if let Some(refusal) = refused_tunnel(&error) {
        return Cause::Proxy(refusal);
    }
    if find::<rustls::Error>(&error).is_some() {
        return Cause::Tls(error);
    }
    // The library calls everything about a body a matter of decoding, the connection that breaks under it included.
    match find::<hyper::Error>(&error) {
        Some(broken) if broken.is_parse() || spoke_first(broken) => {
            Cause::Protocol(format!("what answers there does not speak HTTP ({broken})"))
        }
        None if error.is_decode() => Cause::Decode(Box::new(error)),
        _ => Cause::Connect(error),
    }
}

/// How a proxy refused to connect. The library has no better sign than its words.
fn refused_tunnel(error: &reqwest::Error) -> Option<ProxyRefusal> {
    let causes = successors(error.source(), |cause: &&(dyn Error + 'static)| (*cause).source());
    let words: Vec<String> = causes.map(ToString::to_string).collect();
    let says = |text: &str| words.iter().any(|words| words == text);
    if says("tunnel error: proxy authorization required") {
        return Some(ProxyRefusal::LogIn);
    }
    says("tunnel error: unsuccessful").then_some(ProxyRefusal::Host)
}

/// Whether something came before anything was asked, as servers of SSH and mail do. The library has no better sign.
fn spoke_first(error: &hyper::Error) -> bool {
    error.is_canceled() && error.source().is_some_and(|e| e.to_string().contains("unexpected message"))
}

/// What a failed handshake means and what cures it, where the library's own words do not say.
pub fn words(error: &reqwest::Error) -> Option<&'static str> {
    find::<rustls::Error>(error).and_then(certificate::handshake)
}

/// The first `E` among the causes of `error`.
fn find<E: std::error::Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(found) = inner.downcast_ref() {
            return Some(found);
        }
        // An `io::Error` does not show what it wraps as its source, but only that one's source.
        let wrapped = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        source = wrapped.map_or_else(|| inner.source(), |wrapped| Some(wrapped));
    }
    None
}

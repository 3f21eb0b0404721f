//! Which requests go through a proxy.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use container_registry_exporter::simulator::{Repository, World, keys};
use container_registry_exporter::telemetry::{Collector, Reason};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use crate::support::{Exporter, assert_no_secret, simulator};

const FORBIDDEN: &str = "403 Forbidden";

/// A proxy that refuses everything, and keeps what it was asked for: hosts with ports.
struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// One that answers with this status line.
    async fn start(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let asked = Arc::clone(&proxy.asked);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = BufReader::new(stream);
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    if stream.read_until(b'\n', &mut head).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                let head = String::from_utf8(head).unwrap();
                let target = head.split(' ').nth(1).unwrap_or_default();
                let target = target.trim_start_matches("http://");
                asked.lock().unwrap().push(target.split(['/', '?']).next().unwrap().to_owned());
                let refusal = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(refusal.as_bytes()).await;
            }
        });
        proxy
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(&self) -> BTreeSet<String> {
        self.asked.lock().unwrap().iter().cloned().collect()
    }

    /// How often it was asked since the last time.
    fn times(&self) -> usize {
        std::mem::take(&mut *self.asked.lock().unwrap()).len()
    }
}

#[tokio::test]
async fn an_address_on_this_machine_is_reached_directly_whatever_the_others_are() {
    let mut world = World::empty();
    world.swr.add(Repository::new("group", "app"));
    let (simulator, proxy) = (simulator(world).await, Proxy::start(FORBIDDEN).await);
    let port = simulator.swr_url().rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let source = |more: &str| {
            format!(
                "[sources.swr]\nprovider = \"swr\"\nregion = \"{}\"\nendpoint = \"http://{host}:{port}\"\n\
                 iam_endpoint = \"https://iam.example.com\"\n\
                 auth = {{ access_key = \"{}\", secret_key = \"{}\" }}\n{more}",
                keys::REGION,
                keys::SWR_ACCESS_KEY,
                keys::SWR_SECRET_KEY,
            )
        };
        let environment = [("HTTP_PROXY", proxy.url()), ("HTTPS_PROXY", proxy.url())];
        let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
        let from_environment = Exporter::in_environment(&source(""), &environment);
        let configured = Exporter::new(&source(&format!("proxy_url = \"{}\"\n", proxy.url())));
        for mut exporter in [from_environment, configured] {
            assert!(exporter.poll().await, "{host}");
            assert_eq!(proxy.times(), 0, "{host}");
        }
    }
}

#[tokio::test]
async fn the_exceptions_of_the_environment_are_those_of_other_programs() {
    let proxy = Proxy::start(FORBIDDEN).await;
    // No name server knows these names; only a proxy would be asked for them.
    let endpoints = [
        ("a", "http://registry.corp.invalid", false),
        ("b", "http://corp.invalid", true),
        ("c", "http://other.invalid:8080", false),
        ("d", "http://other.invalid:8081", true),
        ("e", "https://below.name.invalid", false),
        ("f", "https://noname.invalid", true),
    ];
    let sources = endpoints.map(|(name, endpoint, _)| {
        format!(
            "[sources.{name}]\nprovider = \"ncr\"\nregion = \"KR\"\nendpoint = \"{endpoint}\"\nallow_http = true\n\
             auth = {{ access_key = \"a\", secret_key = \"s\" }}\n"
        )
    });
    let url = proxy.url();
    let environment = [
        ("HTTP_PROXY", url.as_str()),
        ("HTTPS_PROXY", &url),
        ("NO_PROXY", "*.corp.invalid, other.invalid:8080,name.invalid"),
    ];
    let mut exporter = Exporter::in_environment(&sources.concat(), &environment);
    assert!(!exporter.poll().await);
    let expected = ["corp.invalid", "noname.invalid:443", "other.invalid:8081"];
    assert_eq!(proxy.asked(), expected.map(str::to_owned).into());
}

/// A source of either cloud at an address that only a proxy could know.
fn behind(proxy: &Proxy, provider: &str, scheme: &str, log_in: &str) -> String {
    let url = proxy.url().replacen("//", &format!("//{log_in}"), 1);
    let region = if provider == "ncr" { "KR" } else { "cn-north-4" };
    format!(
        "[sources.{provider}-{scheme}]\nprovider = \"{provider}\"\nregion = \"{region}\"\nallow_http = true\n\
         endpoint = \"{scheme}://registry.invalid\"\nproxy_url = \"{url}\"\n\
         auth = {{ access_key = \"a\", secret_key = \"s\" }}\n"
    )
}

#[tokio::test]
async fn a_proxy_that_refuses_the_log_in_is_asked_once_and_no_key_is_blamed() {
    let proxy = Proxy::start("407 Proxy Authentication Required").await;
    for (provider, scheme) in [("swr", "https"), ("swr", "http"), ("ncr", "https"), ("ncr", "http")] {
        let mut exporter = Exporter::new(&behind(&proxy, provider, scheme, "user:wrong-pa55@"));
        for _ in 0..5 {
            assert!(!exporter.poll().await);
            let failure = exporter.failure(Collector::Repositories).unwrap();
            assert_eq!(failure.reason, Reason::Connect, "{failure:?}");
            for part in ["proxy", "407", "check the user and the password"] {
                assert!(failure.message.contains(part), "{part} is not in: {failure:?}");
            }
        }
        assert_eq!(proxy.times(), 1, "{provider} {scheme}");
        assert_no_secret(&exporter.everything_shown(), &["wrong-pa55"]);
    }
    // Whoever logs in alike waits, too; another log-in is tried at once.
    let sources = ["swr", "ncr"].map(|provider| behind(&proxy, provider, "https", "user:wrong@")).concat();
    let mut exporter = Exporter::new(&(sources + &behind(&proxy, "swr", "http", "user:other@")));
    for _ in 0..3 {
        assert!(!exporter.poll().await);
    }
    assert!((2..=3).contains(&proxy.times()), "two begin at one time");
}

#[tokio::test]
async fn a_proxy_that_does_not_connect_is_asked_once_in_a_poll() {
    for status in [FORBIDDEN, "502 Bad Gateway", "418 No", "204 No Content"] {
        let proxy = Proxy::start(status).await;
        for provider in ["swr", "ncr"] {
            let shared = if provider == "swr" { "shared = []\n" } else { "" };
            let mut exporter = Exporter::new(&(behind(&proxy, provider, "https", "") + shared));
            for _ in 0..2 {
                assert!(!exporter.poll().await);
                let failure = exporter.failure(Collector::Repositories).unwrap();
                assert_eq!(failure.reason, Reason::Connect, "{failure:?}");
                assert!(failure.message.contains("the proxy did not connect"), "{failure:?}");
                assert_eq!(proxy.times(), 1, "{provider} {status}");
            }
        }
    }
}

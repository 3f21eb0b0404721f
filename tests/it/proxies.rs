//! Which requests go through a proxy.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use container_registry_exporter::simulator::{Repository, World, keys};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use crate::support::{Exporter, simulator};

/// A proxy that refuses everything, and keeps what it was asked for: hosts with ports.
struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<BTreeSet<String>>>,
}

impl Proxy {
    async fn start() -> Self {
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
                asked.lock().unwrap().insert(target.split(['/', '?']).next().unwrap().to_owned());
                let refusal = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(refusal.as_bytes()).await;
            }
        });
        proxy
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().cloned().collect()
    }
}

#[tokio::test]
async fn an_address_on_this_machine_is_reached_directly_whatever_the_others_are() {
    let mut world = World::empty();
    world.swr.add(Repository::new("group", "app"));
    let (simulator, proxy) = (simulator(world).await, Proxy::start().await);
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
            assert_eq!(proxy.asked(), [""; 0], "{host}");
        }
    }
}

#[tokio::test]
async fn the_exceptions_of_the_environment_are_those_of_other_programs() {
    let proxy = Proxy::start().await;
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
    assert_eq!(proxy.asked(), ["corp.invalid", "noname.invalid:443", "other.invalid:8081"]);
}

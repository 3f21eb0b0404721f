//! The routes over real sockets.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use container_registry_exporter::exposition::page::Pages;
use container_registry_exporter::exposition::{self, Source, Sources};
use container_registry_exporter::inventory::{Inventory, SourceName, Timestamp};
use container_registry_exporter::scheduler::{Failure, SourceState, SourceStatus};
use container_registry_exporter::server::{ListenAddress, Server, Site};
use container_registry_exporter::telemetry::self_metrics::SelfMetrics;
use container_registry_exporter::telemetry::{Collector, Reason};
use flate2::read::GzDecoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::exposition::inventories::{info, sample};

const PATIENCE: Duration = Duration::from_secs(20);

/// A served site whose sources the test moves.
pub struct Fixture {
    pub address: SocketAddr,
    pages: Arc<Pages>,
    pub metrics: SelfMetrics,
    sources: watch::Sender<Sources>,
    pub states: BTreeMap<SourceName, watch::Sender<Arc<SourceState>>>,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

pub fn name(name: &str) -> SourceName {
    SourceName::new(name).unwrap()
}

/// A source's state; `tried` is whether its list was tried.
pub fn state(inventory: Inventory, tried: bool) -> Arc<SourceState> {
    let status = SourceStatus {
        tried,
        next_poll: Timestamp::from_milliseconds(1),
        tags_pending: 3,
        ..SourceStatus::new(&[Collector::Repositories])
    };
    Arc::new(SourceState { inventory: Arc::new(inventory), status })
}

pub fn empty(name: &str) -> Inventory {
    Inventory { source: info(name), up: None, organizations_up: Vec::new(), repositories: None, shared: None }
}

/// Serves sources called `a` and `b`, on which nothing is known, as of `started`.
pub async fn serve(started: Instant) -> Fixture {
    let metrics = SelfMetrics::new();
    let mut states = BTreeMap::new();
    let mut sources = Sources::new();
    for each in ["a", "b"] {
        let (sender, receiver) = watch::channel(state(empty(each), false));
        states.insert(name(each), sender);
        let metrics = metrics.source(&name(each), &[Collector::Repositories], Duration::from_mins(5));
        sources.insert(name(each), Source { states: receiver, series_limit: None, metrics });
    }
    let (sources, receiver) = watch::channel(sources);
    let pages = Arc::new(Pages::default());
    tokio::spawn(exposition::run(receiver.clone(), Arc::clone(&pages)));
    let server = Server::bind(&["127.0.0.1:0".parse().unwrap()]).await.unwrap();
    let address = server.addresses()[0];
    let (reload, _) = tokio::sync::mpsc::channel(1);
    let site =
        Site::new("/metrics".to_owned(), receiver, Arc::clone(&pages), metrics.clone(), started, reload);
    let stop = CancellationToken::new();
    let server = tokio::spawn(server.run(Arc::new(site), stop.clone()));
    Fixture { address, pages, metrics, sources, states, stop, server }
}

impl Fixture {
    /// Publishes `inventory` and waits until the page has it.
    pub async fn publish(&self, source: &str, inventory: Inventory) {
        let before = self.pages.source(&name(source)).map(|page| Arc::as_ptr(&page).addr());
        self.states[&name(source)].send_replace(state(inventory, true));
        self.until(|pages| {
            pages.source(&name(source)).is_some_and(|p| Some(Arc::as_ptr(&p).addr()) != before)
        })
        .await;
    }

    /// Has the list of repositories of a source fail, which never succeeded.
    pub fn fail(&self, source: &str, reason: Reason, message: &str) {
        let mut failing = SourceState::clone(&state(Inventory { up: Some(false), ..empty(source) }, true));
        failing.status.collectors[0].failure = Some(Failure {
            time: Timestamp::from_milliseconds(1_700_000_000_000).unwrap(),
            reason,
            message: message.to_owned(),
            next_attempt: None,
        });
        self.states[&name(source)].send_replace(Arc::new(failing));
    }

    async fn until(&self, holds: impl Fn(&Pages) -> bool) {
        let wait = async {
            while !holds(&self.pages) {
                yield_now().await;
            }
        };
        timeout(PATIENCE, wait).await.expect("the page follows the sources");
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    /// Sends one request with more header `lines`.
    pub async fn ask(&self, method: &str, path: &str, lines: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an answer in time").unwrap();
        Answer::new(&bytes)
    }
}

pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Answer {
    fn new(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("an end of the head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, body: bytes[end + 4..].to_vec() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

#[tokio::test]
async fn metrics_are_text_unless_openmetrics_is_preferred() {
    let fixture = serve(Instant::now()).await;
    fixture.publish("a", sample("a", 3, 2)).await;
    let text = fixture.get("/metrics").await;
    assert_eq!(
        (text.status, text.header("content-type")),
        (200, Some("text/plain; version=0.0.4; charset=utf-8"))
    );
    assert_eq!(text.header("vary"), Some("Accept, Accept-Encoding"));
    assert_eq!(text.header("content-length"), Some(text.body.len().to_string().as_str()));
    assert!(
        text.text().contains("container_registry_source_repositories{source=\"a\"} 3\n"),
        "{}",
        text.text()
    );
    assert!(text.text().contains("\ncontainer_registry_exporter_build_info{"));
    let open_metrics = fixture
        .ask("GET", "/metrics", "Accept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n")
        .await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(open_metrics.header("content-type"), Some(kind));
    assert!(open_metrics.text().ends_with("\n# EOF\n"));
}

#[tokio::test]
async fn gzip_decodes_to_the_identity_body() {
    let fixture = serve(Instant::now()).await;
    fixture.publish("a", sample("a", 500, 10)).await;
    let gzip = fixture.ask("GET", "/metrics?source=a", "Accept-Encoding: gzip\r\n").await;
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    assert_eq!(gzip.header("content-length"), Some(gzip.body.len().to_string().as_str()));
    let mut decoded = String::new();
    GzDecoder::new(gzip.body.as_slice()).read_to_string(&mut decoded).unwrap();
    assert_eq!(decoded, fixture.get("/metrics?source=a").await.text());
}

#[tokio::test]
async fn sources_can_be_asked_for_by_name() {
    let fixture = serve(Instant::now()).await;
    fixture.publish("a", sample("a", 3, 2)).await;
    fixture.publish("b", sample("b", 3, 2)).await;
    let only = fixture.get("/metrics?x=y&source=b&source=b").await;
    let samples: Vec<_> = only.text().lines().filter(|line| !line.starts_with('#')).collect();
    assert!(samples.iter().all(|line| line.contains("source=\"b\"")), "{}", only.text());
    assert!(
        samples.iter().any(|line| line.starts_with("container_registry_exporter_poll_interval_seconds{"))
    );
    let both = fixture.get("/metrics?source=b&source=a").await;
    assert!(both.text().contains("source=\"a\"") && both.text().contains("source=\"b\""));
    let unknown = fixture.get("/metrics?source=a&source=%3Cc").await;
    assert_eq!((unknown.status, unknown.text()), (404, "no source is called \"<c\"; the sources are a, b\n"));
    assert_eq!(fixture.get("/metrics?other=c").await.status, 200);
}

#[tokio::test]
async fn head_has_the_head_of_get_and_no_body() {
    let fixture = serve(Instant::now()).await;
    for path in ["/metrics?source=a", "/", "/status.json", "/-/healthy", "/-/ready", "/other"] {
        let (get, head) = (fixture.get(path).await, fixture.ask("HEAD", path, "").await);
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        // Ages on the pages for people are longer a second later.
        if !["/", "/status.json"].contains(&path) {
            assert_eq!(head.header("content-length"), get.header("content-length"), "{path}");
        }
        assert_ne!(head.header("content-length"), Some("0"), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
}

#[tokio::test]
async fn other_methods_and_paths_are_refused_and_counted() {
    let fixture = serve(Instant::now()).await;
    let post = fixture.ask("POST", "/metrics", "Content-Length: 0\r\n").await;
    assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD")));
    let reload = fixture.get("/-/reload").await;
    assert_eq!((reload.status, reload.header("allow")), (405, Some("POST")));
    assert_eq!(fixture.get("/metrics/").await.status, 404);
    let counted = fixture.metrics.gather();
    let requests =
        counted.iter().find(|f| f.name() == "container_registry_exporter_http_requests_total").unwrap();
    let of = |handler: &str, code: &str| {
        let labels = |m: &&prometheus::proto::Metric| {
            m.get_label().iter().map(|l| l.value().to_owned()).collect::<Vec<_>>()
        };
        requests
            .get_metric()
            .iter()
            .find(|m| labels(m) == [code, handler])
            .map(|m| m.get_counter().get_value())
    };
    assert_eq!((of("metrics", "405"), of("other", "404")), (Some(1.0), Some(1.0)));
}

#[tokio::test]
async fn healthy_before_anything_is_known() {
    assert_eq!(serve(Instant::now()).await.get("/-/healthy").await.status, 200);
}

#[tokio::test]
async fn ready_once_every_source_was_tried_and_then_for_ever() {
    let fixture = serve(Instant::now()).await;
    fixture.publish("a", sample("a", 1, 1)).await;
    let waiting = fixture.get("/-/ready").await;
    assert_eq!(
        (waiting.status, waiting.text()),
        (503, "waiting for the first listing of repositories of b\n")
    );
    fixture.publish("b", sample("b", 1, 1)).await;
    assert_eq!(fixture.get("/-/ready").await.status, 200);
    fixture.states[&name("b")].send_replace(state(empty("b"), false));
    assert_eq!(fixture.get("/-/ready").await.status, 200);
}

#[tokio::test]
async fn ready_a_minute_after_the_start_whatever_the_clouds_do() {
    let fixture = serve(Instant::now().checked_sub(Duration::from_mins(1)).unwrap()).await;
    assert_eq!(fixture.get("/-/ready").await.status, 200);
}

#[tokio::test]
async fn a_source_that_is_gone_leaves_the_page() {
    let fixture = serve(Instant::now()).await;
    fixture.publish("a", sample("a", 3, 2)).await;
    fixture.publish("b", sample("b", 3, 2)).await;
    fixture.sources.send_modify(|sources| drop(sources.remove(&name("a"))));
    fixture.until(|pages| pages.sources() == [name("b")]).await;
    assert_eq!(fixture.get("/metrics?source=a").await.status, 404);
}

#[tokio::test]
async fn what_is_published_again_unchanged_is_not_rendered_again() {
    let fixture = serve(Instant::now()).await;
    fixture.publish("a", sample("a", 3, 2)).await;
    fixture.publish("b", empty("b")).await;
    let page = |source| fixture.pages.source(&name(source)).unwrap();
    let before = page("a");
    let again = SourceState::clone(&fixture.states[&name("a")].borrow());
    fixture.states[&name("a")].send_replace(Arc::new(again));
    // What was published before it is seen before it, or at the same time.
    fixture.publish("b", sample("b", 1, 1)).await;
    assert!(Arc::ptr_eq(&page("a"), &before));
}

#[tokio::test]
async fn a_changed_limit_takes_effect_without_a_poll() {
    let fixture = serve(Instant::now()).await;
    fixture.publish("a", sample("a", 3, 2)).await;
    fixture.sources.send_modify(|sources| sources.get_mut(&name("a")).unwrap().series_limit = Some(20));
    let withheld = |pages: &Pages| pages.source(&name("a")).unwrap().counts.withheld;
    fixture.until(|pages| withheld(pages)[4] == 30).await;
    fixture.sources.send_modify(|sources| sources.get_mut(&name("a")).unwrap().series_limit = None);
    fixture.until(|pages| withheld(pages) == [0; 5]).await;
}

#[tokio::test]
async fn an_answer_under_way_is_finished_after_the_stop() {
    let fixture = serve(Instant::now()).await;
    fixture.publish("a", sample("a", 1500, 20)).await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    // The page is larger than all buffers on the way: with its first byte read, the rest is still to come.
    let mut bytes = vec![stream.read_u8().await.unwrap()];
    fixture.stop.cancel();
    let mut some = vec![0; 1024 * 1024];
    stream.read_exact(&mut some).await.unwrap();
    assert!(!fixture.server.is_finished(), "the server waits for the answer's end");
    bytes.extend(some);
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an answer in time").unwrap();
    let answer = Answer::new(&bytes);
    assert!(answer.body.len() > 15_000_000);
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    timeout(PATIENCE, fixture.server).await.expect("the server stops").unwrap();
    assert!(TcpStream::connect(fixture.address).await.is_err());
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_stop() {
    let fixture = serve(Instant::now()).await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    stream.read_u8().await.unwrap();
    fixture.stop.cancel();
    timeout(Duration::from_secs(3), fixture.server).await.expect("the server stops at once").unwrap();
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let fixture = serve(Instant::now()).await;
    let line = format!("X-Long: {}\r\n", "x".repeat(20_000));
    assert_eq!(fixture.ask("GET", "/metrics", &line).await.status, 431);
}

#[tokio::test]
async fn all_interfaces_take_ipv4_and_port_zero_is_a_free_one() {
    let server = Server::bind(&[ListenAddress::All(0)]).await.unwrap();
    let port = server.addresses()[0].port();
    assert_ne!(port, 0);
    TcpStream::connect(("127.0.0.1", port)).await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_the_address() {
    let first = Server::bind(&["127.0.0.1:0".parse().unwrap()]).await.unwrap();
    let address = first.addresses()[0];
    let error = Server::bind(&[ListenAddress::Ip(address)]).await.err().unwrap();
    assert_eq!(error.to_string(), format!("cannot listen on {address}"));
}

//! What other programs make of the page of the real binary: readers of both formats, of gzip and of HTTP. The accounts
//! are simulated and full of names that text stumbles over.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use container_registry_exporter::simulator::Simulator;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::exposition::parser::{Labels, parse};
use crate::golden::{ncr_world, swr_world};
use crate::program::{Files, Program, get, ncr, promtool_check_metrics, python, swr, text, tool, until};

const OPEN_METRICS: &str = "Accept: application/openmetrics-text; version=1.0.0\r\n";

/// An exporter that has read all that there is.
struct Exporter {
    program: Program,
    files: Files,
    _simulator: Simulator,
}

impl Exporter {
    async fn start() -> Self {
        let mut world = swr_world();
        world.ncr = ncr_world().ncr;
        let simulator = Simulator::start(world).await.unwrap();
        let all = "tags = { newest = \"all\", info = true }";
        let files = Files::with_config(&(swr(&simulator, all) + &ncr(&simulator)));
        let program = Program::start(&[&files.flag()]).await;
        for (source, collector) in [("ncr", "tags"), ("swr", "shared_repositories"), ("swr", "tags")] {
            let read = "container_registry_exporter_poll_last_success_timestamp_seconds";
            program.sample(&format!("{read}{{collector=\"{collector}\",source=\"{source}\"")).await;
        }
        for series in
            ["tag_size_bytes{source=\"ncr\"", "tag_size_bytes{source=\"swr\"", "shared_repository_images"]
        {
            program.sample(&format!("container_registry_{series}")).await;
        }
        Self { program, files, _simulator: simulator }
    }

    fn url(&self) -> String {
        format!("http://{}/metrics", self.program.address)
    }

    /// The page in one of its formats.
    async fn page(&self, headers: &str) -> String {
        text(&get(self.program.address, "/metrics", headers).await.body).to_owned()
    }
}

/// The lines of the page that do not change from one second to the next.
fn inventory(page: &str) -> Vec<&str> {
    page.split('\n').filter(|l| l.starts_with("container_registry_") && !l.contains("_exporter_")).collect()
}

/// What a program that must succeed writes.
async fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    output.stdout
}

#[tokio::test]
async fn pythons_parsers_read_what_our_own_reads_in_both_formats() {
    let exporter = Exporter::start().await;
    for (format, headers) in [("text", ""), ("openmetrics", OPEN_METRICS)] {
        let page = exporter.page(headers).await;
        let file = exporter.files.path(format);
        fs::write(&file, &page).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/acceptance/parse.py");
        let read = output(python().arg(script).arg(format).arg(&file)).await;
        let read: Vec<(String, Labels, f64)> = serde_json::from_slice(&read).unwrap();
        let count = read.len();
        let read: BTreeMap<_, _> =
            read.into_iter().map(|(name, labels, value)| ((name, labels), value)).collect();
        let page = page.strip_suffix("# EOF\n").unwrap_or(&page);
        let expected: BTreeMap<_, f64> =
            parse(page).into_iter().map(|(series, value)| (series, value.parse().unwrap())).collect();
        assert_eq!((count, read), (expected.len(), expected), "{format}");
    }
}

#[tokio::test]
async fn promtool_has_nothing_to_say() {
    let exporter = Exporter::start().await;
    assert_eq!(promtool_check_metrics(exporter.page("").await.as_bytes()).await, "");
}

#[tokio::test]
async fn gzip_and_curl_unpack_the_page() {
    let exporter = Exporter::start().await;
    let page = exporter.page("").await;
    let packed = get(exporter.program.address, "/metrics", "Accept-Encoding: gzip\r\n").await.body;
    let file = exporter.files.path("page.gz");
    fs::write(&file, packed).unwrap();
    assert_eq!(text(&output(tool("gzip").arg("-tv").arg(&file)).await), "");
    let unpacked = output(tool("gzip").arg("-dc").arg(&file)).await;
    assert_eq!(inventory(text(&unpacked)), inventory(&page));
    let mut curl = tool("curl");
    curl.args(["-q", "-sS", "--fail", "--noproxy", "*", "--compressed", &exporter.url()]);
    assert_eq!(inventory(text(&output(&mut curl).await)), inventory(&page));
}

#[tokio::test]
async fn a_browser_shows_the_page_as_text() {
    let exporter = Exporter::start().await;
    let page = exporter.page("").await;
    let profile = format!("--user-data-dir={}", exporter.files.path("browser").display());
    let mut browser = tool("chromium");
    browser.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-proxy-server", &profile]);
    let shown = output(browser.args(["--dump-dom", &exporter.url()])).await;
    let shown = text(&shown);
    assert!(shown.contains("<pre"), "{shown}");
    // The others hold what HTML writes in another way.
    let plain: Vec<_> = inventory(&page)
        .into_iter()
        .filter(|l| l.bytes().all(|b| b.is_ascii_graphic() || b == b' '))
        .collect();
    assert!(plain.len() > 100);
    let missing: Vec<_> = plain.into_iter().filter(|line| !shown.contains(line)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The head of an answer without what differs from one second to the next, and the number of bytes after it.
async fn head(exporter: &Exporter, method: &str, headers: &str) -> (Vec<String>, usize) {
    let mut stream = TcpStream::connect(exporter.program.address).await.unwrap();
    let request = format!("{method} /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let lines = text(&answer[..end]).to_lowercase();
    let lines = lines.lines().filter(|line| !line.starts_with("date: ")).map(str::to_owned);
    (lines.collect(), answer.len() - end - 4)
}

#[tokio::test]
async fn the_heads_tell_the_length_the_format_and_that_nothing_is_to_be_stored() {
    let exporter = Exporter::start().await;
    let gzip = "Accept-Encoding: gzip\r\n";
    for headers in [String::new(), gzip.to_owned(), OPEN_METRICS.to_owned(), OPEN_METRICS.to_owned() + gzip] {
        let (lines, length) = head(&exporter, "GET", &headers).await;
        let has = |line: &str| assert!(lines.iter().any(|l| l == line), "{line} is not in {lines:?}");
        has("http/1.1 200 ok");
        has("vary: accept, accept-encoding");
        has("cache-control: no-store");
        has("x-content-type-options: nosniff");
        has(&format!("content-length: {length}"));
        let kind = if headers.contains("openmetrics") {
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        } else {
            "text/plain; version=0.0.4; charset=utf-8"
        };
        has(&format!("content-type: {kind}"));
        let encoded = lines.iter().any(|line| line == "content-encoding: gzip");
        assert_eq!(encoded, headers.contains("gzip"));
        // The exporter's own figures may have changed between the two, once a second.
        until("a HEAD like the GET", async || {
            let get = head(&exporter, "GET", &headers).await.0;
            (head(&exporter, "HEAD", &headers).await == (get, 0)).then_some(())
        })
        .await;
    }
}

//! The web configuration: what loads, what is refused, and what real clients then meet.

mod reload;
mod systemd;
mod tls;
mod users;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use container_registry_exporter::exposition::Sources;
use container_registry_exporter::exposition::page::Pages;
use container_registry_exporter::server::{Server, Site, WebConfigFile};
use container_registry_exporter::telemetry::self_metrics::SelfMetrics;
use expect_test::expect_file;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::program::{PATIENCE, command, run, text};

/// What every secret in the files is: it must never be printed.
const SECRET: &str = "hunter2";

/// The certificates and keys, as absolute paths.
fn pem(name: &str) -> String {
    format!("{}/tests/tls/web/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A server with the certificate of the tests; `more` is further lines of the section.
fn tls(more: &str) -> String {
    let (certificate, key) = (pem("server.pem"), pem("server.key"));
    format!("tls_server_config:\n  cert_file: {certificate}\n  key_file: {key}\n{more}")
}

/// A site without sources, protected as the text says.
struct Protected {
    address: SocketAddr,
    metrics: SelfMetrics,
    _stop: DropGuard,
    _directory: TempDir,
}

impl Protected {
    async fn new(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.yml");
        fs::write(&path, config).unwrap();
        let web = WebConfigFile::load(Some(&path)).unwrap_or_else(|error| panic!("{error}\n{config}"));
        let (metrics, stop) = (SelfMetrics::new(), CancellationToken::new());
        let (_, sources) = watch::channel(Sources::new());
        let (reload, _) = mpsc::channel(1);
        let pages = Arc::new(Pages::default());
        let site = Site::new("/metrics".to_owned(), sources, pages, metrics.clone(), Instant::now(), reload);
        let server = Server::bind(&["127.0.0.1:0".parse().unwrap()]).await.unwrap();
        let address = server.addresses()[0];
        tokio::spawn(server.protected(Arc::new(web)).run(Arc::new(site), stop.clone()));
        Self { address, metrics, _stop: stop.drop_guard(), _directory: directory }
    }

    /// What curl gets over TLS.
    async fn https(&self, path: &str, arguments: &[&str]) -> Answer {
        https(self.address, path, arguments).await
    }

    /// What curl gets over plain HTTP.
    async fn http(&self, path: &str, arguments: &[&str]) -> Answer {
        curl(&format!("http://{}{path}", self.address), arguments).await
    }
}

/// What curl got, if it got anything.
#[derive(Debug)]
struct Answer {
    /// 0 if there was no answer.
    status: u16,
    version: String,
    /// In lower case.
    head: String,
    body: String,
}

async fn https(address: SocketAddr, path: &str, arguments: &[&str]) -> Answer {
    let authority = pem("authority.pem");
    let arguments = [&["--cacert", &authority], arguments].concat();
    curl(&format!("https://{address}{path}"), &arguments).await
}

async fn curl(url: &str, arguments: &[&str]) -> Answer {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--include", "--noproxy", "*", "--http2", url])
        .args(arguments)
        .kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.expect("an answer or an end");
    let output = output.expect("curl is missing; run: apt-get install -y curl");
    let output = String::from_utf8(output.stdout).unwrap();
    let (head, body) = output.split_once("\r\n\r\n").unwrap_or_default();
    let mut first = head.lines().next().unwrap_or_default().split(' ');
    let version = first.next().unwrap_or_default().to_owned();
    let status = first.next().map_or(0, |status| status.parse().unwrap());
    Answer { status, version, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

/// The `.yml` files in `tests/config/web/KIND`, sorted.
fn files(kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new("tests/config/web").join(kind)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "yml")).collect();
    files.sort();
    files
}

#[test]
fn every_good_file_loads() {
    let files = files("good");
    for path in &files {
        if let Err(error) = WebConfigFile::load(Some(path)) {
            panic!("{}: {error}", path.display());
        }
    }
    assert!(files.len() >= 13, "{}", files.len());
}

#[test]
fn every_bad_file_is_refused_with_its_exact_message() {
    let files = files("bad");
    for path in &files {
        let error = WebConfigFile::load(Some(path)).err().unwrap_or_else(|| panic!("{}", path.display()));
        let message = error.to_string();
        assert!(!message.contains(SECRET), "{}: {message}", path.display());
        let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join(path).with_extension("txt");
        expect_file![expected].assert_eq(&format!("{message}\n"));
    }
    assert!(files.len() >= 23, "{}", files.len());
}

#[tokio::test]
async fn check_and_serve_tell_the_problems_of_both_configurations() {
    let arguments = [
        "--config.file=tests/config/bad/provider.toml",
        "--web.config.file=tests/config/web/bad/versions.yml",
    ];
    for command in ["check", "serve"] {
        let output = run(&[&arguments[..], &[command]].concat()).await;
        assert_eq!(output.status.code(), Some(2));
        let problems = text(&output.stderr);
        for key in ["sources.", "tls_server_config.max_version"] {
            assert!(problems.contains(key), "{problems}");
        }
    }
}

#[tokio::test]
async fn a_missing_file_is_refused_and_once_needs_none() {
    let output = run(&["demo", "--web.config.file=missing.yml"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "--web.config.file: missing.yml: no such file; create it or correct the path\n"
    );
}

#[tokio::test]
async fn client_certificates_are_those_of_the_systems_authorities_unless_others_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.yml");
    fs::write(&path, tls("  client_auth_type: RequireAndVerifyClientCert\n")).unwrap();
    let arguments =
        ["check", "--config.file=tests/config/ok/swr.toml", &format!("--web.config.file={}", path.display())];
    for (authorities, code) in [(pem("authority.pem"), 0), (pem("server.key"), 2)] {
        let output = command(&arguments).env("SSL_CERT_FILE", authorities).output().await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        let said =
            text(&output.stderr).contains("client_ca_file: is missing, and the system trusts no authority");
        assert_eq!(said, code == 2, "{}", text(&output.stderr));
    }
}

#[tokio::test]
async fn without_settings_it_is_plain_http_for_everybody() {
    let site = Protected::new("").await;
    let answer = site.http("/-/healthy", &["--http1.1"]).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "healthy\n"));
}

#[tokio::test]
async fn every_answer_bears_the_headers() {
    let site = Protected::new(
        "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    X-XSS-Protection: 1\n    \
         Strict-Transport-Security: >\n      max-age=1;\n      includeSubDomains\n    \
         Content-Security-Policy: sandbox\n\
         rate_limit: {interval: 1h, burst: 3}\n",
    )
    .await;
    for (path, status) in [("/", 200), ("/nothing", 404), ("/-/reload", 405), ("/", 429)] {
        let answer = site.http(path, &["--http1.1"]).await;
        assert_eq!(answer.status, status, "{path}");
        for line in [
            "x-frame-options: deny",
            "x-xss-protection: 1",
            "strict-transport-security: max-age=1; includesubdomains",
            "content-security-policy: sandbox",
            "x-content-type-options: nosniff",
        ] {
            assert!(answer.head.lines().any(|found| found == line), "{line}: {}", answer.head);
        }
        // The page's own policy is still there.
        assert_eq!(
            answer.head.contains("content-security-policy: default-src"),
            path == "/" && status == 200
        );
    }
}

#[tokio::test]
async fn requests_over_the_rate_get_429_before_anything_else_is_looked_at() {
    let site = Protected::new(
        "rate_limit: {interval: 1h, burst: 2}\n\
         basic_auth_users: {alice: $2y$04$1DpfPeqF9HzHJt.EWswy1exHluGfbhnn3yXhR7Xes6m3WJqFg0Wby}\n",
    )
    .await;
    for status in [401, 401, 429, 429] {
        assert_eq!(site.http("/metrics", &["--http1.1"]).await.status, status);
    }
    let families = site.metrics.gather();
    let requests = families.iter().find(|f| f.name().ends_with("http_requests_total")).unwrap();
    let counted = |code: &str| {
        let of_code = requests.get_metric().iter().find(|m| {
            m.get_label().iter().any(|l| l.value() == code)
                && m.get_label().iter().any(|l| l.value() == "metrics")
        });
        of_code.map_or(0.0, |m| m.get_counter().get_value())
    };
    assert_eq!((counted("401"), counted("429")), (2.0, 2.0));
}

//! Answers byte by byte, as no simulator of an API gives them: what can be read is read, and the rest has its name.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use container_registry_exporter::simulator::keys;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::support::ncr_at;
use super::*;

const LIST: &str = r#"{"count":1,"next":null,"results":[{"name":"app","pull_count":7}]}"#;

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// An answer with these headers and a body whose length it states.
fn answer(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// One whose body ends with the connection.
fn unframed(headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_bytes(), body].concat()
}

/// A server that gives every connection the next of these answers, the last for ever, and closes it; how many it gave.
/// One that does not listen first speaks as soon as somebody comes.
async fn server(answers: Vec<Vec<u8>>, listens: bool) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/ncr/api/v2", listener.local_addr().unwrap());
    let given = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&given);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let number = counter.fetch_add(1, Ordering::SeqCst);
            let mut request = Vec::new();
            while listens && !request.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let _ = stream.write_all(&answers[number.min(answers.len() - 1)]).await;
            let _ = stream.shutdown().await;
            // Unread bytes would make a reset of the end.
            while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {}
        }
    });
    (address, given)
}

fn exporter(endpoint: &str) -> Exporter {
    let more = "registries = [\"prod\"]\ntags = { enabled = false }";
    Exporter::new(&ncr_at("ncr", endpoint, keys::NCR_SECRET_KEY, more))
}

#[tokio::test]
async fn what_can_be_read_is_read() {
    let (first, second) = LIST.split_at(20);
    let many: String = "X-Hop: 1\r\n".repeat(300);
    for (name, bytes) in [
        ("folded header", answer("X-Note: a\r\n  b\r\n", LIST.as_bytes())),
        ("space before the colon", answer("X-Note : a\r\n", LIST.as_bytes())),
        ("300 headers", answer(&many, LIST.as_bytes())),
        ("gzip", answer("Content-Encoding: gzip\r\n", &gzip(LIST))),
        ("x-gzip", answer("Content-Encoding: x-gzip\r\n", &gzip(LIST))),
        ("GZIP", answer("Content-Encoding: GZIP\r\n", &gzip(LIST))),
        ("gzip without a word", answer("", &gzip(LIST))),
        ("two members", answer("Content-Encoding: gzip\r\n", &[gzip(first), gzip(second)].concat())),
        (
            "two members of x-gzip",
            answer("Content-Encoding: x-gzip\r\n", &[gzip(first), gzip(second)].concat()),
        ),
        ("byte order mark", answer("", &["\u{feff}".as_bytes(), LIST.as_bytes()].concat())),
        ("no length", unframed("", LIST.as_bytes())),
    ] {
        let (endpoint, given) = server(vec![bytes], true).await;
        let mut exporter = exporter(&endpoint);
        assert!(exporter.poll().await, "{name}: {}", exporter.everything_shown());
        assert_eq!(exporter.sum("repository_downloads", "app"), 7.0, "{name}");
        assert_eq!(given.load(Ordering::SeqCst), 1, "{name}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_said_to_be_none_and_not_asked_again() {
    for (name, bytes) in [
        ("an SSH server", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n".to_vec()),
        ("a TLS alert", vec![0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x28]),
        ("text", b"hello, who is there?\r\n".to_vec()),
        ("a mail server", b"220 mail.example ESMTP\r\n".to_vec()),
        ("another HTTP", b"HTTP/7.3 200 OK\r\n\r\n".to_vec()),
        ("a header without a name", b"HTTP/1.1 200 OK\r\n: x\r\n\r\n".to_vec()),
    ] {
        for listens in [true, false] {
            let (endpoint, given) = server(vec![bytes.clone()], listens).await;
            let mut exporter = exporter(&endpoint);
            assert!(!exporter.poll().await);
            let failure = exporter.failure(Collector::Repositories).unwrap();
            assert_eq!(failure.reason.as_str(), "protocol", "{name} {listens}: {}", failure.message);
            assert!(failure.message.contains("does not speak HTTP"), "{}", failure.message);
            assert_eq!(given.load(Ordering::SeqCst), 1, "{name} {listens}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_cut_is_asked_for_again() {
    let half = &LIST.as_bytes()[..LIST.len() / 2];
    let packed = gzip(LIST);
    let half_packed = &packed[..packed.len() / 2];
    let stated = answer("", LIST.as_bytes());
    for (name, bytes) in [
        ("its end is the connection's", unframed("", half)),
        ("packed", unframed("Content-Encoding: gzip\r\n", half_packed)),
        ("packed under another name", unframed("Content-Encoding: x-gzip\r\n", half_packed)),
        ("shorter than stated", stated[..stated.len() - 9].to_vec()),
        ("between chunks", unframed("Transfer-Encoding: chunked\r\n", b"5\r\n{\"cou\r\n")),
    ] {
        let (endpoint, given) = server(vec![bytes, answer("", LIST.as_bytes())], true).await;
        let mut exporter = exporter(&endpoint);
        assert!(exporter.poll().await, "{name}: {}", exporter.everything_shown());
        assert_eq!(given.load(Ordering::SeqCst), 2, "{name}");
        assert_eq!(exporter.sum("exporter_api_retries_total", ""), 1.0, "{name}");
    }
}

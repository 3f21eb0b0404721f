//! The port as clients of all kinds meet it: addresses, ends of input, bodies that nobody asked for.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Instant;

use container_registry_exporter::server::{ListenAddress, Server};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::exposition::inventories::sample;
use crate::program::{PATIENCE, command, text, tool};
use crate::server::serve;

/// What Debian's netcat gets that closes its direction at the end of its input.
async fn netcat(address: SocketAddr, request: &str) -> String {
    let mut netcat = tool("nc");
    netcat.args(["-N", &address.ip().to_string(), &address.port().to_string()]);
    let mut netcat = netcat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = netcat.stdin.take().unwrap();
    stdin.write_all(request.as_bytes()).await.unwrap();
    drop(stdin);
    let output = timeout(PATIENCE, netcat.wait_with_output()).await.expect("an end").unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn an_end_of_input_is_not_the_clients_departure() {
    let fixture = serve(Instant::now()).await;
    fixture.publish("a", sample("a", 1500, 20)).await;
    let one = "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n";
    for (request, answers) in [
        (one.to_owned(), 1),
        ("GET /-/healthy HTTP/1.0\r\n\r\n".to_owned(), 1),
        ("GET /-/healthy HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned(), 1),
        ("HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(), 1),
        // The answer waits for others, or is far larger than all buffers on the way.
        ("POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}".to_owned(), 1),
        ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 1),
        (one.repeat(3), 3),
        (format!("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n{one}"), 2),
    ] {
        let got = netcat(fixture.address, &request).await;
        assert_eq!(got.matches("HTTP/1.").count(), answers, "{request}");
        let length = got.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let body = &got[got.find("\r\n\r\n").unwrap() + 4..];
        let whole = request.starts_with("HEAD") || body.len() >= length.parse().unwrap();
        assert!(whole, "{} of {length} bytes: {request}", body.len());
    }
}

#[tokio::test]
async fn who_closes_without_having_asked_is_let_go() {
    let fixture = serve(Instant::now()).await;
    assert_eq!(netcat(fixture.address, "").await, "");
    // What is cut off in the middle is no request.
    for part in ["GET /-/heal", "GET /-/healthy HTTP/1.1\r\nHost: x\r\n"] {
        let got = netcat(fixture.address, part).await;
        assert!(!got.contains("200 OK"), "{got}");
    }
}

/// Sends a request with `body` after its head, all of it before anything is read, as simple clients do; returns what
/// comes until the end.
async fn send_all_then_read(address: SocketAddr, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let work = async {
        stream.write_all(head.as_bytes()).await.expect("the head is taken");
        for part in body.chunks(64 * 1024) {
            stream.write_all(part).await.expect("the body is taken");
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an end and no reset");
        String::from_utf8(answer).unwrap()
    };
    timeout(PATIENCE, work).await.expect("an answer in time")
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let chunks = body
        .chunks(50_000)
        .map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    [&chunks.flatten().collect::<Vec<u8>>()[..], b"0\r\n\r\n"].concat()
}

#[tokio::test]
async fn a_body_that_nobody_reads_costs_nobody_the_answer() {
    let fixture = serve(Instant::now()).await;
    fixture.publish("a", sample("a", 1500, 20)).await;
    for megabytes in [1, 3, 12] {
        let body = vec![b'x'; megabytes * 1024 * 1024];
        let known = format!("Content-Length: {}\r\n", body.len());
        let expects = format!("{known}Expect: 100-continue\r\n");
        let unknown = "Transfer-Encoding: chunked\r\n";
        for (start, status) in [
            ("POST /-/reload", "500"),
            ("POST /metrics", "405"),
            ("PUT /nothing", "404"),
            // The answer does not fit into the buffers on the way and is not taken before the body is sent.
            ("GET /metrics", "200"),
        ] {
            for (lines, body) in [(&known[..], &body), (&expects, &body), (unknown, &chunked(&body))] {
                let head = format!("{start} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n");
                // A page that large is cut off with a body beyond all bounds: the client takes neither.
                if start == "GET /metrics" && (megabytes > 3 || lines.contains("Expect")) {
                    continue;
                }
                let got = send_all_then_read(fixture.address, &head, body).await;
                assert!(got.contains(&format!("HTTP/1.1 {status} ")), "{head}{got:.100}");
            }
        }
    }
}

#[tokio::test]
async fn a_connection_goes_on_after_a_body_that_nobody_reads() {
    let fixture = serve(Instant::now()).await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    let body = vec![b'x'; 3 * 1024 * 1024];
    for (lines, body) in [
        (format!("Content-Length: {}", body.len()), body.clone()),
        ("Transfer-Encoding: chunked".into(), chunked(&body)),
    ] {
        let head = format!("POST /-/healthy HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let mut line = String::new();
        let mut reader = BufReader::new(&mut stream);
        timeout(PATIENCE, reader.read_line(&mut line)).await.unwrap().unwrap();
        assert!(line.contains("405"), "{line}");
        let mut line = String::new();
        while timeout(PATIENCE, reader.read_line(&mut line)).await.unwrap().unwrap() > 2 {
            assert!(!line.to_lowercase().contains("connection: close"));
            line.clear();
        }
        let mut rest = vec![0; "use GET, HEAD\n".len()];
        let _ = timeout(PATIENCE, reader.read(&mut rest)).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn curl_is_answered_whether_or_not_it_waits_to_be_asked_for_a_body() {
    let fixture = serve(Instant::now()).await;
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("body");
    std::fs::write(&path, vec![b'x'; 3 * 1024 * 1024]).unwrap();
    let body = format!("@{}", path.display());
    for (page, status) in [("/-/reload", "500"), ("/metrics", "405")] {
        for header in ["Expect: 100-continue", "Expect:", "Transfer-Encoding: chunked"] {
            let mut curl = tool("curl");
            curl.args(["--silent", "--show-error", "--noproxy", "*", "--write-out", "%{http_code}"]);
            curl.args(["--output", "/dev/null", "--header", header, "--data-binary", &body]);
            curl.arg(format!("http://{}{page}", fixture.address));
            let output = timeout(PATIENCE, curl.output()).await.unwrap().unwrap();
            assert_eq!((text(&output.stdout), text(&output.stderr)), (status, ""), "{page} {header}");
        }
    }
}

#[tokio::test]
async fn brackets_take_the_addresses_of_both_families() {
    for (address, at) in [
        ("[127.0.0.1]:0", "127.0.0.1"),
        ("[0.0.0.0]:0", "127.0.0.1"),
        ("[::ffff:127.0.0.1]:0", "127.0.0.1"),
        ("[::ffff:0.0.0.0]:0", "127.0.0.1"),
        ("[::]:0", "127.0.0.1"),
    ] {
        let server = Server::bind(&[address.parse().unwrap()]).await.unwrap();
        let port = server.addresses()[0].port();
        TcpStream::connect((at, port)).await.unwrap_or_else(|error| panic!("{address}: {error}"));
    }
}

#[tokio::test]
async fn an_unknown_zone_is_an_error_that_names_it() {
    for (zone, reason) in [("nope0", "no network interface nope0"), ("99999", "no network interface 99999")] {
        let address: ListenAddress = format!("[fe80::1%{zone}]:0").parse().unwrap();
        let arguments = ["demo", &format!("--web.listen-address={address}")];
        let output = timeout(PATIENCE, command(&arguments).output()).await.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stderr);
        assert!(said.contains(&address.to_string()) && said.contains(reason), "{said}");
    }
}

#[tokio::test]
async fn a_zone_may_be_a_name_or_a_number() {
    let program = env!("CARGO_BIN_EXE_container-registry-exporter");
    for zone in ["lo", "1"] {
        // Loopback in a network of its own has the address of one interface.
        let mut unshare = tool("unshare");
        unshare.args([
            "--net",
            "sh",
            "-c",
            "ip link set lo up && ip address add fe80::1/64 dev lo nodad && exec \"$@\"",
            "sh",
        ]);
        unshare.args([program, "demo", &format!("--web.listen-address=[fe80::1%{zone}]:0")]);
        let mut exporter = unshare.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(exporter.stderr.take().unwrap()).lines();
        let listens = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains("listening") {
                    return line;
                }
                assert!(!line.contains("cannot"), "{line}");
            }
            panic!("it ended; this needs root and iproute2");
        };
        let line = timeout(PATIENCE, listens).await.unwrap();
        assert!(line.contains("[fe80::1%1]:"), "{line}");
    }
}

//! Handshakes with curl.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Protected, https, pem, tls};
use crate::program::{Files, PATIENCE, Program, python, text, tool};

/// Whether clients get an answer: one without a certificate, a stranger, one that the authority vouches for.
async fn admitted(more: &str) -> [bool; 3] {
    let site = Protected::new(&tls(more)).await;
    let mut admitted = [false; 3];
    for (outcome, name) in admitted.iter_mut().zip(["", "stranger", "client"]) {
        let (certificate, key) = (pem(&format!("{name}.pem")), pem(&format!("{name}.key")));
        let arguments = ["--cert", &certificate, "--key", &key];
        let answer = site.https("/-/healthy", if name.is_empty() { &[] } else { &arguments }).await;
        *outcome = answer.status == 200;
    }
    admitted
}

fn policy(policy: &str, more: &str) -> String {
    format!("  client_auth_type: {policy}\n  client_ca_file: {}\n{more}", pem("authority.pem"))
}

#[tokio::test]
async fn the_five_policies_are_those_of_the_official_exporters() {
    for (name, expected) in [
        ("RequestClientCert", [true, true, true]),
        ("RequireAnyClientCert", [false, true, true]),
        ("VerifyClientCertIfGiven", [true, false, true]),
        ("RequireAndVerifyClientCert", [false, false, true]),
    ] {
        assert_eq!(admitted(&policy(name, "")).await, expected, "{name}");
    }
    assert_eq!(admitted("  client_auth_type: NoClientCert\n").await, [true; 3]);
}

#[tokio::test]
async fn the_policies_hold_for_tls_1_2_too() {
    let old = "  max_version: TLS12\n";
    assert_eq!(admitted(&policy("RequireAndVerifyClientCert", old)).await, [false, false, true]);
    assert_eq!(admitted(&policy("RequireAnyClientCert", old)).await, [false, true, true]);
}

#[tokio::test]
async fn every_kind_of_name_is_found_and_must_match_exactly() {
    let names =
        ["prometheus.example", "10.0.0.1", "'fd00::1'", "p@monitoring.example", "'spiffe://example/p'"];
    for name in names {
        let more = policy("RequireAndVerifyClientCert", &format!("  client_allowed_sans: [other, {name}]\n"));
        assert_eq!(admitted(&more).await, [false, false, true], "{name}");
    }
    let more =
        policy("RequireAndVerifyClientCert", "  client_allowed_sans: [example, client, '*.example']\n");
    assert_eq!(admitted(&more).await, [false; 3]);
}

#[tokio::test]
async fn with_a_list_of_names_nobody_comes_in_without_one() {
    for name in ["RequestClientCert", "VerifyClientCertIfGiven"] {
        let more = policy(name, "  client_allowed_sans: [prometheus.example]\n");
        assert_eq!(admitted(&more).await, [false, false, true], "{name}");
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_accepted_if_it_is_listed_itself() {
    let authorities = format!(
        "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: {}\n",
        pem("stranger.pem")
    );
    assert_eq!(admitted(&authorities).await, [false, true, false]);
}

#[tokio::test]
async fn the_versions_are_those_of_the_file() {
    let only_13 = Protected::new(&tls("  min_version: TLS13\n")).await;
    assert_eq!(only_13.https("/-/healthy", &["--tls-max", "1.2"]).await.status, 0);
    assert_eq!(only_13.https("/-/healthy", &[]).await.status, 200);
    let only_12 = Protected::new(&tls("  max_version: TLS12\n")).await;
    assert_eq!(only_12.https("/-/healthy", &["--tlsv1.3"]).await.status, 0);
    assert_eq!(only_12.https("/-/healthy", &[]).await.status, 200);
    let raised = Protected::new(&tls("  min_version: TLS10\n  max_version: TLS11\n")).await;
    let old = ["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"];
    assert_eq!(raised.https("/-/healthy", &old).await.status, 0);
    assert_eq!(raised.https("/-/healthy", &["--tlsv1.3"]).await.status, 0);
    assert_eq!(raised.https("/-/healthy", &[]).await.status, 200);
}

#[tokio::test]
async fn suites_and_curves_are_those_of_the_file() {
    let settings =
        "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n  curve_preferences: [CurveP384]\n";
    let site = &Protected::new(&tls(settings)).await;
    let ask = async |ciphers: &str, curves: &str| {
        let arguments = ["--tls-max", "1.2", "--ciphers", ciphers, "--curves", curves];
        site.https("/-/healthy", &arguments).await.status
    };
    // The certificate is one of P-256, which a client must name as well.
    assert_eq!(ask("ECDHE-ECDSA-AES256-GCM-SHA384", "P-256:P-384").await, 200);
    assert_eq!(ask("ECDHE-ECDSA-AES128-GCM-SHA256", "P-256:P-384").await, 0);
    assert_eq!(ask("ECDHE-ECDSA-AES256-GCM-SHA384", "P-256:X25519").await, 0);
    // As in Go the list is none for TLS 1.3.
    let new = ["--tlsv1.3", "--tls13-ciphers", "TLS_AES_128_GCM_SHA256", "--curves", "P-384"];
    assert_eq!(site.https("/-/healthy", &new).await.status, 200);
}

#[tokio::test]
async fn http_1_1_alone_is_spoken_whatever_client_and_file_ask_for() {
    for more in ["", "http_server_config: {http2: true}\n", "http_server_config: {http2: false}\n"] {
        let site = Protected::new(&tls(more)).await;
        for arguments in [&["--http2"][..], &["--http1.1"], &["--no-alpn"]] {
            let answer = site.https("/-/healthy", arguments).await;
            assert_eq!((answer.version.as_str(), answer.status), ("HTTP/1.1", 200), "{more}{arguments:?}");
        }
    }
}

#[tokio::test]
async fn who_asks_for_http_2_is_told_once_that_nobody_gets_it() {
    for (setting, told) in [("{http2: true}", 1), ("{http2: yes}", 1), ("{http2: false}", 0), ("{}", 0)] {
        let files = Files::with_config("");
        let path = files.path("web.yml");
        fs::write(&path, tls(&format!("http_server_config: {setting}\n"))).unwrap();
        let program = Program::start(&["demo", &format!("--web.config.file={}", path.display())]).await;
        // A re-read of what has not changed repeats nothing.
        let arguments = ["--request", "POST"];
        assert_eq!(https(program.address, "/-/reload", &arguments).await.status, 200);
        let lines = program.log().into_iter().filter(|line| line.contains("HTTP/1.1 alone is served"));
        assert_eq!(lines.count(), told, "{setting}");
    }
}

#[tokio::test]
async fn plain_http_is_told_that_the_port_speaks_tls() {
    let site = Protected::new(&tls("")).await;
    for arguments in
        [&["--http1.1"][..], &["--http1.0"], &["--request", "DELETE"], &["--data", "x=1"], &["--http2"]]
    {
        let answer = site.http("/-/healthy", arguments).await;
        assert_eq!(answer.status, 400, "{arguments:?}");
        assert_eq!(answer.body, "Client sent an HTTP request to an HTTPS server.\n");
    }
    assert_eq!(site.http("/-/healthy", &["--head"]).await.status, 400);
    // Whatever else is no handshake gets no page, and nobody else is held up.
    for noise in [&b"\0"[..], b"get / HTTP/1.0\r\n\r\n", b"\x80\x2e\x01"] {
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        stream.write_all(noise).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut got = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut got)).await.expect("an end");
        assert!(!got.starts_with(b"HTTP/"), "{noise:?}");
    }
    assert_eq!(site.https("/-/healthy", &[]).await.status, 200);
}

/// Asks over TLS, says that nothing more comes, and prints what comes then.
const ASK_AND_CLOSE: &str = r#"
import socket, ssl, sys
port, authority, version, half = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
context = ssl.create_default_context(cafile=authority)
context.maximum_version = ssl.TLSVersion[version]
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
stream = socket.create_connection(("127.0.0.1", port))
def step(work):
    while True:
        try:
            return work()
        except ssl.SSLWantReadError:
            if outgoing.pending:
                stream.sendall(outgoing.read())
            received = stream.recv(65536)
            incoming.write(received) if received else incoming.write_eof()
step(tls.do_handshake)
tls.write(b"GET /status.json HTTP/1.1\r\nHost: x\r\n\r\n")
try:
    tls.unwrap()
except ssl.SSLWantReadError:
    pass
stream.sendall(outgoing.read())
if half == "half":
    stream.shutdown(socket.SHUT_WR)
while True:
    try:
        received = step(lambda: tls.read(65536))
    except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
        break
    if not received:
        break
    print(received.decode(), end="")
"#;

#[tokio::test]
async fn a_close_notify_after_the_request_is_not_the_clients_departure() {
    let site = Protected::new(&tls("")).await;
    let port = site.address.port().to_string();
    for version in ["TLSv1_2", "TLSv1_3"] {
        for half in ["half", "open"] {
            let mut python = python();
            python.args(["-c", ASK_AND_CLOSE, &port, &pem("authority.pem"), version, half]);
            let output = timeout(PATIENCE, python.output()).await.expect("an end").unwrap();
            let got = text(&output.stdout);
            let said = text(&output.stderr);
            assert!(
                got.starts_with("HTTP/1.1 200 ") && got.trim_end().ends_with('}'),
                "{version} {half}: {got} {said}"
            );
        }
    }
    // Its input ends at once, and it waits for the answer.
    let mut openssl = tool("openssl");
    openssl.args(["s_client", "-quiet", "-connect", &site.address.to_string()]).stdin(Stdio::piped());
    let mut openssl = openssl.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = openssl.stdin.take().unwrap();
    stdin.write_all(b"GET /-/healthy HTTP/1.0\r\n\r\n").await.unwrap();
    drop(stdin);
    let output = timeout(PATIENCE, openssl.wait_with_output()).await.expect("an end").unwrap();
    assert!(text(&output.stdout).ends_with("healthy\n"), "{}", text(&output.stdout));
}

#[tokio::test]
async fn a_handshake_that_does_not_come_holds_up_nobody_and_ends() {
    let site = Protected::new(&tls("")).await;
    let mut silent = TcpStream::connect(site.address).await.unwrap();
    assert_eq!(site.https("/metrics", &[]).await.status, 200);
    let end = timeout(PATIENCE.max(Duration::from_secs(20)), silent.read_u8()).await;
    assert!(end.expect("the connection ends").is_err());
}

//! HTTP/2 frame by frame (RFC 9113), from clients that take what they can get.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Protected, pem, tls};
use crate::program::PATIENCE;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// The request ends with its head, and the head with this frame.
const WHOLE: u8 = 5;
/// `GET https:/`, then `:authority: x`.
const REQUEST: &[u8] = &[0x82, 0x87, 0x84, 0x41, 1, b'x'];
const CANCEL: &[u8] = &[0, 0, 0, 8];
const ENHANCE_YOUR_CALM: &[u8] = &[0, 0, 0, 11];

/// A connection to the site after the settings of the client.
async fn connect(site: &Protected) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pem("authority.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(site.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The next frame of a kind; `None` if the connection ends before.
async fn next(stream: &mut TlsStream<TcpStream>, kind: u8) -> Option<Vec<u8>> {
    let read = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            stream.read_exact(&mut payload).await.ok()?;
            if head[3] == PING {
                stream.write_all(&frame(PING, 1, 0, &payload)).await.ok()?;
                stream.flush().await.ok()?;
            }
            if head[3] == kind {
                return Some(payload);
            }
        }
    };
    timeout(PATIENCE, read).await.expect("a frame or an end")
}

#[tokio::test]
async fn the_limits_are_told() {
    let site = Protected::new(&tls("")).await;
    let settings = next(&mut connect(&site).await, SETTINGS).await.unwrap();
    let value = |number: u8| {
        let setting = settings.chunks(6).find(|setting| setting[..2] == [0, number])?;
        Some(u32::from_be_bytes(setting[2..].try_into().unwrap()))
    };
    let (concurrent_streams, header_list_bytes) = (value(3), value(6));
    assert_eq!((concurrent_streams, header_list_bytes), (Some(8), Some(16 * 1024)));
}

#[tokio::test]
async fn a_client_that_takes_requests_back_over_and_over_is_sent_away() {
    let site = Protected::new(&tls("")).await;
    let mut stream = connect(&site).await;
    let requests = (0..500).map(|number| 2 * number + 1);
    let requests =
        requests.flat_map(|id| [frame(HEADERS, WHOLE, id, REQUEST), frame(RST_STREAM, 0, id, CANCEL)]);
    // It may close before it has read them all.
    let _ = stream.write_all(&requests.flatten().collect::<Vec<u8>>()).await;
    let _ = stream.flush().await;
    let goodbye = next(&mut stream, GOAWAY).await.expect("a reason for the end");
    assert_eq!(&goodbye[4..8], ENHANCE_YOUR_CALM);
    assert_eq!(site.https("/metrics", &[]).await.status, 200);
}

#[tokio::test]
async fn a_connection_is_told_of_the_stop() {
    let site = Protected::new(&tls("")).await;
    let mut stream = connect(&site).await;
    stream.write_all(&frame(HEADERS, WHOLE, 1, REQUEST)).await.unwrap();
    stream.flush().await.unwrap();
    next(&mut stream, HEADERS).await.expect("an answer");
    drop(site);
    next(&mut stream, GOAWAY).await.expect("a word before the end");
    while next(&mut stream, GOAWAY).await.is_some() {}
}

//! Certificates of outgoing connections that are renewed while the exporter runs.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use container_registry_exporter::simulator::{Call, Repository, Simulator, Tag, World};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::program::{Files, Program, swr, until};

fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/web").join(name)
}

/// Speaks TLS in front of the simulator, with clients of the tests' authority alone; its address.
async fn tls_in_front_of(simulator: &Simulator) -> SocketAddr {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pem("authority.pem")).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let chain = vec![CertificateDer::from_pem_file(pem("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(pem("server.key")).unwrap();
    let config = ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key);
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let to = simulator.swr_url().strip_prefix("http://").unwrap().to_owned();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, to) = (acceptor.clone(), to.clone());
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(stream).await else { return };
                let mut server = TcpStream::connect(to).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

/// Replaces a file in one step.
fn put(files: &Files, name: &str, content: &[u8]) {
    fs::write(files.path("new"), content).unwrap();
    fs::rename(files.path("new"), files.path(name)).unwrap();
}

#[tokio::test]
async fn renewed_certificates_are_taken_by_themselves_and_broken_ones_are_not() {
    let mut world = World::empty();
    world.swr.add(Repository::new("group", "app").with_tag(Tag::new("v1", 5)));
    let simulator = Simulator::start(world).await.unwrap();
    let address = tls_in_front_of(&simulator).await;
    let tls = "shared = []\ntls = { ca_file = \"ca.pem\", cert_file = \"tls.crt\", key_file = \"tls.key\" }";
    let config = swr(&simulator, tls).replace(&simulator.swr_url(), &format!("https://{address}"));
    let files = Files::with_config(&config);
    let copy = |from: &str, to: &str| put(&files, to, &fs::read(pem(from)).unwrap());
    copy("stranger.pem", "ca.pem");
    copy("stranger.pem", "tls.crt");
    copy("stranger.key", "tls.key");
    let program = Program::start(&[&files.flag()]).await;
    let up = "container_registry_up{source=\"swr\"} ";
    assert_eq!(program.sample(up).await, "0");

    // One of two is not enough, and what does not go together is not even tried.
    copy("authority.pem", "ca.pem");
    copy("client.pem", "tls.crt");
    let warnings =
        || program.log().iter().filter(|line| line.contains("changed files cannot be used")).count();
    until("the warning", async || (warnings() == 1).then_some(())).await;
    assert!(program.log().iter().any(|line| line.contains("tls.key_file") && line.contains("tls.key")));
    copy("client.key", "tls.key");
    until("the first good poll", async || (program.sample(up).await == "1").then_some(())).await;

    let tag = "container_registry_tag_size_bytes{source=\"swr\"";
    program.sample(tag).await;
    let lists = simulator.requests(Call::ListRepositories);
    put(&files, "ca.pem", b"garbage");
    until("the warning", async || (warnings() == 2).then_some(())).await;
    let reload = async || {
        let url = format!("http://{}/-/reload", program.address);
        let output =
            tokio::process::Command::new("curl").args(["--silent", "--request", "POST", &url]).output();
        String::from_utf8(output.await.unwrap().stdout).unwrap()
    };
    let told = reload().await;
    assert!(told.contains("sources.swr.tls.ca_file") && told.contains("ca.pem"), "{told}");
    assert_eq!(program.sample(up).await, "1");
    assert_eq!(simulator.requests(Call::ListRepositories), lists);

    // By a reload too, and nothing of what is known is lost.
    let both = [fs::read(pem("stranger.pem")).unwrap(), fs::read(pem("authority.pem")).unwrap()].concat();
    put(&files, "ca.pem", &both);
    assert_eq!(reload().await, "reloaded\n");
    until("the next poll", async || (simulator.requests(Call::ListRepositories) > lists).then_some(())).await;
    assert_eq!(program.sample(up).await, "1");
    program.sample(tag).await;
    assert_eq!((simulator.requests(Call::ListTags), warnings()), (1, 2));
}

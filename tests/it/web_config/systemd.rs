//! Sockets that somebody else opened.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Stdio;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::time::timeout;

use super::curl;
use crate::program::{PATIENCE, command_after, run, text, tool, until};

/// Starts the demo with a socket handed over as systemd does it.
fn start(socket: OwnedFd) -> Child {
    let before = "export LISTEN_FDS=1 LISTEN_PID=$$; exec 3<&0 0</dev/null";
    // The address is not used: it would be refused.
    let arguments = ["demo", "--web.systemd-socket", "--web.listen-address=203.0.113.1:1"];
    command_after(before, &arguments).stdin(Stdio::from(socket)).spawn().unwrap()
}

async fn is_healthy(url: &str, arguments: &[&str]) {
    until("the exporter", async || (curl(url, arguments).await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn a_tcp_socket_is_listened_on_instead_of_the_addresses() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let _exporter = start(socket.into());
    is_healthy(&format!("http://{address}/-/healthy"), &["--http1.1"]).await;
}

#[tokio::test]
async fn a_unix_socket_is_listened_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("exporter.sock");
    let _exporter = start(UnixListener::bind(&path).unwrap().into());
    is_healthy("http://localhost/-/healthy", &["--http1.1", "--unix-socket", path.to_str().unwrap()]).await;
}

#[tokio::test]
async fn without_a_socket_it_says_so() {
    let output = run(&["demo", "--web.systemd-socket"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("there is no socket from systemd"), "{}", text(&output.stderr));
}

/// What the exporter says that is started with such a socket, and ends.
async fn refused(socket: OwnedFd) -> String {
    let before = "export LISTEN_FDS=1 LISTEN_PID=$$; exec 3<&0 0</dev/null";
    let mut command = command_after(before, &["demo", "--web.systemd-socket"]);
    let child = command.stdin(Stdio::from(socket)).stderr(Stdio::piped()).spawn().unwrap();
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("an end").unwrap();
    assert_eq!(output.status.code(), Some(1));
    text(&output.stderr).to_owned()
}

#[tokio::test]
async fn what_does_not_listen_is_refused_with_what_the_unit_must_say() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (connection, _) = listener.accept().unwrap();
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    bound.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let (pair, other) = UnixStream::pair().unwrap();
    let unbound = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let messages = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    let file = tempfile::tempfile().unwrap();
    for (socket, cure) in [
        (OwnedFd::from(connection), "Accept=no"),
        (bound.into(), "ListenStream= and Accept=no"),
        (pair.into(), "Accept=no"),
        (unbound.into(), "ListenStream= and Accept=no"),
        (datagrams.into(), "ListenStream= alone"),
        (UnixDatagram::unbound().unwrap().into(), "ListenStream= alone"),
        (messages.into(), "ListenStream= alone"),
        (file.into(), "ListenStream= alone"),
    ] {
        let said = refused(socket).await;
        assert!(
            said.contains("cannot listen on a socket from systemd") && said.contains(cure),
            "{cure}: {said}"
        );
        assert!(!said.contains("listening"), "{said}");
    }
    drop((client, other));
}

#[tokio::test]
async fn systemd_socket_activate_is_understood_and_its_accept_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_container-registry-exporter");
    for (mode, expected) in [("", ""), ("--accept", "Accept=no")] {
        let path = directory.path().join(format!("socket{mode}"));
        let mut activate = tool("systemd-socket-activate");
        activate.args(Some(mode).filter(|mode| !mode.is_empty()));
        activate.arg(format!("--listen={}", path.display())).args([program, "demo", "--web.systemd-socket"]);
        let mut activate = activate.stderr(Stdio::piped()).spawn().unwrap();
        let client = until("the socket", async || UnixStream::connect(&path).ok()).await;
        if expected.is_empty() {
            drop(client);
            is_healthy("http://localhost/-/healthy", &["--unix-socket", path.to_str().unwrap()]).await;
        } else {
            let mut lines = BufReader::new(activate.stderr.take().unwrap()).lines();
            let told = async {
                while let Some(line) = lines.next_line().await.unwrap() {
                    if line.contains(expected) {
                        return;
                    }
                }
                panic!("it ended without a word");
            };
            timeout(PATIENCE, told).await.expect("the reason");
        }
    }
}

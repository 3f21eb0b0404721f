//! Sockets that somebody else opened.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use tokio::process::Child;

use super::curl;
use crate::program::{command_after, run, text, until};

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

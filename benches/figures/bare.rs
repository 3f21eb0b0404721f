//! The least that a server can do: write bytes that it has. It runs in a process of its own.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::ACCEPT_ENCODING;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::exporter::cpu_of;

/// The argument that makes this program the bare server.
pub const ROLE: &str = "serve-bare";

/// A bare server; dropping it ends its process.
pub struct Bare {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Bare {
    /// Starts a server that writes `gzip` to whoever accepts that and `identity` to others.
    pub fn start(gzip: &Path, identity: &Path) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([Path::new(ROLE), gzip, identity])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no standard output")?).read_line(&mut line)?;
        let address = line.trim().parse()?;
        Ok(Self { child, address })
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU time that it has used, in steps of 10 ms.
    pub fn cpu(&self) -> Result<std::time::Duration> {
        cpu_of(self.child.id())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is the bare server, for ever.
pub fn serve(arguments: &[&str]) -> Result<()> {
    let [gzip, identity] = arguments else { bail!("two files are needed") };
    let gzip = Bytes::from(std::fs::read(gzip)?);
    let identity = Bytes::from(std::fs::read(identity)?);
    // As many threads as the exporter has.
    let threads = std::thread::available_parallelism()?.get().min(4);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (gzip, identity) = (gzip.clone(), identity.clone());
            let service = service_fn(move |request: Request<_>| {
                let compressed = request.headers().get(ACCEPT_ENCODING).is_some_and(|value| value == "gzip");
                let body = if compressed { gzip.clone() } else { identity.clone() };
                std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(body))))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}

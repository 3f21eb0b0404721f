//! A scraper that behaves as Prometheus does.

use std::io::{Error, ErrorKind, Read as _};
use std::net::SocketAddr;
use std::time::Duration;

use flate2::read::GzDecoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::program::PATIENCE;

/// Prometheus waits for 10 s; the exporter must not need the 10 s after which an unfinished request times out.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(6);
/// Shorter than anybody would set it, so that a test sees many scrapes.
const SCRAPE_INTERVAL: Duration = Duration::from_millis(200);

/// Scrapes on one connection that it keeps, each page complete and with the expected line on it, in time.
pub struct Scraper {
    task: JoinHandle<()>,
    scrapes: watch::Receiver<u32>,
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scraper {
    /// Begins to scrape; every page must have the line `expected`.
    pub fn start(address: SocketAddr, expected: &'static str) -> Self {
        let (done, scrapes) = watch::channel(0);
        let task = tokio::spawn(async move {
            let mut ticks = interval(SCRAPE_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut kept = None;
            loop {
                ticks.tick().await;
                let page = timeout(SCRAPE_TIMEOUT, scrape(address, &mut kept)).await;
                let page = page.expect("a page within the time-out of a scrape").expect("a page");
                assert!(page.lines().any(|line| line == expected), "{expected} is not on the page");
                done.send_modify(|scrapes| *scrapes += 1);
            }
        });
        Self { task, scrapes }
    }

    /// Waits for so many more good scrapes; the first of them began before this.
    pub async fn scrapes(&mut self, more: u32) {
        let enough = *self.scrapes.borrow() + more;
        let waited = timeout(PATIENCE, self.scrapes.wait_for(|done| *done >= enough)).await;
        waited.expect("scrapes go on").expect("the scraper did not fail");
    }
}

/// One scrape. A kept connection that ends without an answer is replaced once, as Go's HTTP client does; a new one
/// must answer.
async fn scrape(address: SocketAddr, kept: &mut Option<TcpStream>) -> Result<String, Error> {
    if let Some(mut stream) = kept.take()
        && let Ok(page) = ask(&mut stream).await
    {
        *kept = Some(stream);
        return Ok(page);
    }
    let mut stream = TcpStream::connect(address).await?;
    let page = ask(&mut stream).await?;
    *kept = Some(stream);
    Ok(page)
}

async fn ask(stream: &mut TcpStream) -> Result<String, Error> {
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n").await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.ok_or(ErrorKind::InvalidData)?.parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let mut page = String::new();
    GzDecoder::new(&body[..]).read_to_string(&mut page)?;
    Ok(page)
}

//! The cheapest client there can be, so that what is measured is the server.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// No answer takes longer; a measurement that hangs should say so.
const TIMEOUT: Duration = Duration::from_mins(2);

/// A connection that is kept alive, or made anew for each request where the server closes it.
pub struct Client {
    stream: Option<TcpStream>,
    address: SocketAddr,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        Ok(Self { stream: Some(open(address)?), address, buffer: vec![0; 256 * 1024] })
    }

    /// Asks for `path`, hands the body to `take` as it comes, and returns its length.
    pub fn get(&mut self, path: &str, encoding: &str, mut take: impl FnMut(&[u8])) -> Result<usize> {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {}\r\naccept-encoding: {encoding}\r\n\r\n", self.address);
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => open(self.address)?,
        };
        stream.write_all(request.as_bytes())?;
        let mut filled = 0;
        let head = loop {
            let read = stream.read(&mut self.buffer[filled..])?;
            ensure!(read > 0, "the server hung up");
            filled += read;
            if let Some(end) = self.buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = std::str::from_utf8(&self.buffer[..head])?;
        ensure!(text.starts_with("HTTP/1.1 200") || text.starts_with("HTTP/1.0 200"), "{text}");
        let keeps_alive = text.starts_with("HTTP/1.1");
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        let length: usize = length.context("the answer does not say how long it is")?;
        take(&self.buffer[head..filled]);
        let mut taken = filled - head;
        while taken < length {
            let read = stream.read(&mut self.buffer)?;
            ensure!(read > 0, "the server hung up");
            take(&self.buffer[..read]);
            taken += read;
        }
        self.stream = keeps_alive.then_some(stream);
        Ok(length)
    }

    /// The whole body of `path`.
    pub fn body(&mut self, path: &str, encoding: &str) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        self.get(path, encoding, |part| body.extend_from_slice(part))?;
        Ok(body)
    }
}

fn open(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

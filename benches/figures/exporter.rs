//! The program as users run it, and what the system says of its process.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use container_registry_exporter::simulator::keys;
use tempfile::NamedTempFile;

use super::http::Client;

/// The program as packages hold it.
const BINARY: &str = env!("CARGO_BIN_EXE_container-registry-exporter");
/// Nothing that is waited for takes longer.
const TIMEOUT: Duration = Duration::from_mins(2);

/// A running exporter; dropping it ends its process.
pub struct Exporter {
    child: Child,
    log: Receiver<(Instant, String)>,
    _config: NamedTempFile,
    /// Just before its process was started.
    pub spawned: Instant,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Exporter {
    /// Starts `serve` with this configuration and waits until it listens.
    pub fn start(config: &str) -> Result<Self> {
        let mut file = NamedTempFile::new()?;
        file.write_all(config.as_bytes())?;
        let spawned = Instant::now();
        let mut child = Command::new(BINARY)
            .args(["serve", "--web.listen-address", "127.0.0.1:0", "--config.file"])
            .arg(file.path())
            .stderr(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stderr.take().context("no standard error")?).lines();
        let (sender, log) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if line.contains("level=warn") || line.contains("level=error") {
                    eprintln!("{line}");
                }
                if sender.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        let address = ([127, 0, 0, 1], 0).into();
        let mut exporter = Self { child, log, _config: file, spawned, address };
        let (_, line) = exporter.logged(&["listening"])?;
        let (_, address) = line.rsplit_once("address=").context("no address in the log")?;
        exporter.address = address.split(' ').next().unwrap_or_default().trim_matches('"').parse()?;
        Ok(exporter)
    }

    /// Waits for a line of the log that contains all these words, and says when it came.
    pub fn logged(&self, words: &[&str]) -> Result<(Instant, String)> {
        let end = Instant::now() + TIMEOUT;
        loop {
            let line = self.log.recv_timeout(end.saturating_duration_since(Instant::now()));
            let (time, line) = line.with_context(|| format!("the log never said {words:?}"))?;
            if words.iter().all(|word| line.contains(word)) {
                return Ok((time, line));
            }
        }
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A connection to it.
    pub fn client(&self) -> Result<Client> {
        Client::connect(self.address)
    }

    /// CPU time that it has used, in steps of 10 ms.
    pub fn cpu(&self) -> Result<Duration> {
        cpu_of(self.child.id())
    }

    /// Its resident memory in megabytes: now, and at most so far.
    pub fn memory(&self) -> Result<(f64, f64)> {
        memory_of(self.child.id())
    }

    /// Waits until it has been idle for a moment: the page is made after the poll.
    pub fn settle(&self) -> Result<()> {
        let mut last = self.cpu()?;
        loop {
            thread::sleep(Duration::from_millis(150));
            let now = self.cpu()?;
            if now == last {
                return Ok(());
            }
            last = now;
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time that a process has used, in steps of 10 ms.
pub fn cpu_of(id: u32) -> Result<Duration> {
    let stat = process(id)?.stat()?;
    Ok(Duration::from_secs(stat.utime + stat.stime) / u32::try_from(procfs::ticks_per_second())?)
}

/// Resident memory of a process in megabytes: now, and at most so far.
pub fn memory_of(id: u32) -> Result<(f64, f64)> {
    let status = process(id)?.status()?;
    #[expect(clippy::cast_precision_loss, reason = "kilobytes of one process")]
    let megabytes = |kilobytes: Option<u64>| kilobytes.map(|k| k as f64 * 1024.0 / 1e6);
    megabytes(status.vmrss).zip(megabytes(status.vmhwm)).context("the system does not tell its memory")
}

/// Has the system forget how much memory a process had at most so far.
pub fn forget_peak_of(id: u32) -> Result<()> {
    std::fs::write(format!("/proc/{id}/clear_refs"), "5").context("cannot reset the peak of memory")
}

fn process(id: u32) -> Result<procfs::process::Process> {
    Ok(procfs::process::Process::new(id.try_into()?)?)
}

/// A configuration that reads the simulated SWR at `url` as `sources` sources, without a pace, with the lines
/// `poll` and `tags` of each.
pub fn config(url: &str, sources: usize, poll: &str, tags: &str) -> String {
    let mut config = format!("[poll]\nrequests_per_second = 0\n{poll}\n[limits]\nseries_per_source = 0\n");
    for source in 0..sources {
        write!(
            config,
            "[sources.swr-{source}]\nprovider = \"swr\"\nregion = \"{}\"\nendpoint = \"{url}\"\nshared = []\n\
             tags = {{ {tags} }}\nauth = {{ access_key = \"{}\", secret_key = \"{}\" }}\n",
            keys::REGION,
            keys::SWR_ACCESS_KEY,
            keys::SWR_SECRET_KEY,
        )
        .expect("writing to a String cannot fail");
    }
    config
}

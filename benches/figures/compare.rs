//! Scrapes of this exporter beside those of a bare server and of what users would otherwise write, all of the same
//! series, asked in turn in one run.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::bare::Bare;
use super::exporter::{Exporter, config, cpu_of, forget_peak_of, memory_of};
use super::http::Client;
use super::model::is_inventory;
use super::rivals::Rival;
use super::simulated::Simulated;
use super::{Figures, quantile};

/// Each server is scraped for about so long by each number of scrapers in each encoding, but
const TIME: Duration = Duration::from_secs(2);
/// so many times at least and at most.
const SCRAPES: (u32, u32) = (3, 10_000);
/// Scrapes before those, as long as they do not take half of the time.
const WARM_UP: u32 = 10;
/// The servers take turns so many times.
const TURNS: u32 = 3;
/// Who needs longer for one scrape is not asked by eight at once, which may take minutes and all memory.
const TOO_SLOW: Duration = Duration::from_millis(1500);

pub fn measure_thousand(figures: &mut Figures) -> Result<()> {
    measure(figures, 43)
}

pub fn measure_hundred_thousand(figures: &mut Figures) -> Result<()> {
    measure(figures, 4340)
}

pub fn measure_million(figures: &mut Figures) -> Result<()> {
    measure(figures, 43_480)
}

/// A server and what was measured of it.
struct Server {
    name: &'static str,
    address: SocketAddr,
    process: u32,
    /// How long one scrape takes.
    one: Duration,
    times: Vec<Duration>,
    cpu: Duration,
}

fn measure(figures: &mut Figures, repositories: u32) -> Result<()> {
    let mut cloud = Simulated::start(repositories, 5, Duration::ZERO)?;
    let exporter = Exporter::start(&config(&cloud.url, 1, "interval = \"1h\"", ""))?;
    while cloud.requests()? < u64::from(repositories.div_ceil(1000) + repositories) {
        thread::sleep(Duration::from_millis(50));
    }
    exporter.settle()?;
    let mut client = exporter.client()?;
    let directory = tempfile::tempdir()?;
    let (gzip, identity) = (directory.path().join("gzip"), directory.path().join("identity"));
    std::fs::write(&gzip, client.body("/metrics", "gzip")?)?;
    let page = client.body("/metrics", "identity")?;
    std::fs::write(&identity, &page)?;
    let series = std::str::from_utf8(&page)?.lines().filter(|line| is_inventory(line)).count();
    drop(page);
    drop(cloud);

    let bare = Bare::start(&gzip, &identity)?;
    let rivals = [
        ("prometheus crate, Collector", Rival::start("collector", &identity)?),
        ("prometheus crate, GaugeVec", Rival::start("gauge-vec", &identity)?),
        ("Python prometheus_client", Rival::start("python", &identity)?),
    ];
    let server = |name, address, process| Server {
        name,
        address,
        process,
        one: Duration::ZERO,
        times: Vec::new(),
        cpu: Duration::ZERO,
    };
    let mut servers = vec![
        server("this exporter", exporter.address, exporter.id()),
        server("bare server", bare.address, bare.id()),
    ];
    servers.extend(rivals.iter().map(|(name, rival)| server(name, rival.address, rival.id())));
    for encoding in ["gzip", "identity"] {
        for scrapers in [1, 8] {
            println!("  {series} series, {encoding}, scrapers: {scrapers}");
            compare(&mut servers, encoding, scrapers)?;
            if (repositories, encoding, scrapers) == (4340, "gzip", 1) {
                let [exporter, .., gauge_vec, _] = &mut servers[..] else { continue };
                let ratio = quantile(&mut gauge_vec.times, 0.5) / quantile(&mut exporter.times, 0.5);
                figures.at_least(300.0, "GaugeVec's p50 to ours, gzip", ratio);
            }
        }
    }
    Ok(())
}

fn compare(servers: &mut [Server], encoding: &'static str, scrapers: u32) -> Result<()> {
    for server in &mut *servers {
        server.times.clear();
        server.cpu = Duration::ZERO;
        let mut client = Client::connect(server.address)?;
        // The shortest of some: the first after a start may be a long one.
        server.one = Duration::MAX;
        let begin = Instant::now();
        for _ in 0..WARM_UP {
            let start = Instant::now();
            client.get("/metrics", encoding, |_| ())?;
            server.one = server.one.min(start.elapsed());
            if begin.elapsed() > TIME / 2 {
                break;
            }
        }
        forget_peak_of(server.process)?;
    }
    for _ in 0..TURNS {
        for server in &mut *servers {
            if scrapers > 1 && server.one > TOO_SLOW {
                continue;
            }
            let wanted = TIME.as_nanos() / server.one.as_nanos().max(1);
            let wanted = u32::try_from(wanted)?.clamp(SCRAPES.0, SCRAPES.1).div_ceil(TURNS * scrapers);
            let before = cpu_of(server.process)?;
            server.times.extend(scrape(server.address, encoding, scrapers, wanted)?);
            server.cpu += cpu_of(server.process)?.saturating_sub(before);
        }
    }
    let mut ours: Option<(f64, f64)> = None;
    for server in servers {
        if server.times.is_empty() {
            println!("    {:<28} not measured: one scrape takes {:.1?}", server.name, server.one);
            continue;
        }
        let (p50, p99) = (quantile(&mut server.times, 0.5), quantile(&mut server.times, 0.99));
        let count = u32::try_from(server.times.len())?;
        let cpu = (server.cpu / count).as_secs_f64() * 1e3;
        let (our_p50, our_cpu) = *ours.get_or_insert((p50, cpu));
        println!(
            "    {:<28} p50 {p50:>9.3} ms ({:>7.2}x)  p99 {p99:>9.3} ms  CPU {cpu:>9.3} ms ({:>7.2}x)  peak {:>6.0} MB  \
             {count} scrapes",
            server.name,
            p50 / our_p50,
            cpu / our_cpu,
            memory_of(server.process)?.1,
        );
    }
    Ok(())
}

/// Has each of so many `connections` scrape so many times, and says how long each scrape took.
fn scrape(
    address: SocketAddr,
    encoding: &'static str,
    connections: u32,
    scrapes: u32,
) -> Result<Vec<Duration>> {
    let work = move || -> Result<Vec<Duration>> {
        let mut client = Client::connect(address)?;
        let mut times = Vec::new();
        for _ in 0..scrapes {
            let start = Instant::now();
            client.get("/metrics", encoding, |_| ())?;
            times.push(start.elapsed());
        }
        Ok(times)
    };
    let threads: Vec<_> = (0..connections).map(|_| thread::spawn(work)).collect();
    let mut times = Vec::new();
    for thread in threads {
        times.extend(thread.join().ok().context("a scraper panicked")??);
    }
    Ok(times)
}
